"""Substitutions: what each key means once all definitions of the text are known.

A key's value is read from its last definition backwards: a text, number or list ends the search, blocks merge with what
is before them, an optional substitution that finds nothing is passed over. A substitution looks its path up in the
whole text in the same way, with one rule for self-references: a definition that is being evaluated is not seen, nor is
any later one of the same key. So ``path = ${path}":/x"`` looks back, and a ring of substitutions finds nothing.

Results are remembered unless they depend on what is being evaluated around them; every step is charged to the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from filoray.cluster.config.hocon_tree import Appended, Block, Items, Joined, Node, Path, Plain, Substitution, Text
from filoray.cluster.config.parse_budget import ParseBudget
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue


class _Missing:
    """What an optional substitution finds where nothing is."""


@dataclass(frozen=True, slots=True)
class _Layers:
    """An object not yet made: blocks that merge, the later ones over the earlier.

    ``origins``: the substitutions and joined values that brought the blocks, by ``id``.
    """

    blocks: tuple[Block, ...]
    origins: frozenset[int] = frozenset()


_MISSING = _Missing()
_Value: TypeAlias = "Plain | _Layers | list[PlainValue] | _Missing"
_NEVER = 1 << 30
_LOOKS_PER_VALUE = 4  # definitions that are looked at in the time in which a value is made
_VALUES_PER_REPETITION = 8  # values that are made in the time in which a substitution is followed once more


class Resolver:
    """``environment``: where substitutions look last; None: they may not, as the text is somebody else's."""

    def __init__(self, root: Block, environment: Mapping[str, str] | None, budget: ParseBudget) -> None:
        self._root = _Layers((root,))
        self._environment = environment
        self._budget = budget
        self._known: dict[int, _Value] = {}
        self._evaluating: dict[int, int] = {}
        self._unsettled: set[int] = set()
        self._making: set[int] = set()
        self._making_depth = 0
        self._looked_back_to = _NEVER

    def resolve(self) -> dict[str, PlainValue]:
        """Plain values of the whole text. Raises ConfigError naming the substitution that finds nothing."""
        return self._made(self._root)

    # ---- objects and lists that are made

    def _made(self, layers: _Layers) -> dict[str, PlainValue]:
        if not layers.origins.isdisjoint(self._making):
            raise ConfigError(f"{self._budget.place}: a block contains itself through a substitution")
        self._check_depth()
        self._making |= layers.origins
        self._making_depth += 1
        keys: dict[str, None] = {key: None for block in layers.blocks for key in block.fields}
        made: dict[str, PlainValue] = {}
        for key in keys:
            definitions = self._definitions(layers, key)
            value = self._value_of(definitions, len(definitions))
            if not isinstance(value, _Missing):
                self._budget.work()
                made[key] = self._plain(value)
        self._making -= layers.origins
        self._making_depth -= 1
        return made

    def _plain(self, value: Plain | _Layers | list[PlainValue]) -> PlainValue:
        if isinstance(value, Plain):
            return value.value
        return self._made(value) if isinstance(value, _Layers) else value

    def _check_depth(self) -> None:
        """Blocks in blocks and substitutions of substitutions, which may take turns."""
        self._budget.check_depth((self._making_depth + len(self._evaluating)) // 2)

    # ---- one key

    def _definitions(self, layers: _Layers, key: str) -> Sequence[Node]:
        if len(layers.blocks) == 1:
            definitions: Sequence[Node] = layers.blocks[0].fields.get(key, ())
        else:
            definitions = [node for block in layers.blocks for node in block.fields.get(key, ())]
        self._budget.work((len(definitions) + len(layers.blocks)) // _LOOKS_PER_VALUE)
        return definitions

    def _value_of(self, definitions: Sequence[Node], end: int) -> _Value:
        """By the definitions before ``end``."""
        blocks: list[Block] = []
        origins: set[int] = set()
        appended: list[Node] = []
        for i in range(end - 1, -1, -1):
            node = definitions[i]
            self._budget.step()
            if isinstance(node, Appended) and not blocks:
                appended.append(node)
                continue
            value = node if isinstance(node, Plain) else self._evaluated(node)
            if isinstance(value, _Missing):
                continue
            if appended:
                return self._with_appended(value, appended)
            if not isinstance(value, _Layers):
                if blocks:
                    break
                return value
            blocks += reversed(value.blocks)
            if not isinstance(node, Block):
                origins.add(id(node))
                self._budget.work(len(value.blocks) // _LOOKS_PER_VALUE)
        if appended:
            return self._with_appended(_MISSING, appended)
        return _Layers(tuple(reversed(blocks)), frozenset(origins)) if blocks else _MISSING

    def _with_appended(self, before: _Value, appended: Sequence[Node]) -> _Value:
        """``before`` is the value under the ``+=`` definitions, which are given from the last to the first."""
        last = appended[0]
        assert isinstance(last, Appended)
        items: list[PlainValue] = []
        if not isinstance(before, _Missing):
            items += self._as_list(before, last.text, last.offset, "+= needs a list before it")
        for node in reversed(appended):
            value = self._evaluated(node)
            assert isinstance(value, list), "see _evaluate"
            items += value
        self._budget.work(len(items))
        return items

    def _evaluated(self, node: Node) -> _Value:
        if isinstance(node, Block):
            return _Layers((node,))
        known = self._known.get(id(node))
        if known is not None:
            return known
        if id(node) in self._evaluating:  # reached through a block that is made of it, not by a path: no looking back
            raise ConfigError(f"{self._budget.place}: a list or text contains itself through a substitution")
        if id(node) in self._unsettled:
            self._budget.work(_VALUES_PER_REPETITION)
        depth = len(self._evaluating)
        self._check_depth()
        self._evaluating[id(node)] = depth
        around, self._looked_back_to = self._looked_back_to, _NEVER
        try:
            value = self._evaluate(node)
        finally:
            del self._evaluating[id(node)]
            looked_back_to, self._looked_back_to = self._looked_back_to, around
        if looked_back_to >= depth:
            self._known[id(node)] = value
        else:
            self._unsettled.add(id(node))
            self._looked_back_to = min(around, looked_back_to)
        return value

    def _evaluate(self, node: Node) -> _Value:
        match node:
            case Substitution():
                return self._found(node)
            case Joined():
                return self._joined(node)
            case Items(items):
                return [self._plain(value) for item in items if not isinstance(value := self._item(item), _Missing)]
            case Appended(item):
                value = self._item(item)
                return [] if isinstance(value, _Missing) else [self._plain(value)]
            case _:
                raise AssertionError(f"evaluated by the callers: {node!r}")

    def _item(self, node: Node) -> _Value:
        return node if isinstance(node, Plain) else self._evaluated(node)

    # ---- substitutions

    def _found(self, node: Substitution) -> _Value:
        around, self._looked_back_to = self._looked_back_to, _NEVER
        for prefix in (*node.prefixes, ()):
            value = self._look_up(prefix + node.path)
            if not isinstance(value, _Missing):
                self._looked_back_to = min(self._looked_back_to, around)
                return value
        is_ring, self._looked_back_to = self._looked_back_to != _NEVER, min(self._looked_back_to, around)
        name = ".".join(node.path)
        if self._environment is not None and (text := self._environment.get(name)) is not None:
            return Plain(text, text)
        if node.is_optional:
            return _MISSING
        why = "there is no such key"
        if is_ring:
            why = "it refers to itself, and there is no earlier value"
        elif self._environment is None:
            why += ", and posted text reads no environment"
        raise ConfigError(f"{node.text.at(node.offset)}: ${{{name}}} cannot be resolved: {why}")

    def _look_up(self, path: Path) -> _Value:
        value: _Value = self._root
        for key in path:
            if not isinstance(value, _Layers):
                return _MISSING
            definitions = self._definitions(value, key)
            value = self._value_of(definitions, self._visible(definitions))
        return value

    def _visible(self, definitions: Sequence[Node]) -> int:
        """How many of the definitions come before the first that is being evaluated."""
        if self._evaluating:
            for i, node in enumerate(definitions):
                depth = self._evaluating.get(id(node))
                if depth is not None:
                    self._looked_back_to = min(self._looked_back_to, depth)
                    return i
        return len(definitions)

    # ---- values side by side

    def _joined(self, node: Joined) -> _Value:
        values = [piece if isinstance(piece, Plain) else self._evaluated(piece) for piece in node.pieces]
        there = [value for value in values if not isinstance(value, _Missing)]
        solid = [value for value in there if not (isinstance(value, Plain) and value.is_space)]
        if not there:
            return _MISSING
        if all(isinstance(value, Plain) for value in solid):
            text = "".join(value.text for value in there if isinstance(value, Plain))
            self._budget.work(1, len(text))
            return Plain(text, text)
        if all(isinstance(value, _Layers) for value in solid):
            blocks = tuple(block for value in solid if isinstance(value, _Layers) for block in value.blocks)
            self._budget.work(len(blocks))
            return _Layers(blocks)
        problem = "a list is joined with lists, a block with blocks, a text with texts, and not one with another"
        items: list[PlainValue] = []
        for value in solid:
            items += self._as_list(value, node.text, node.offset, problem)
        self._budget.work(len(items))
        return items

    def _as_list(
        self, value: Plain | _Layers | list[PlainValue], text: Text, offset: int, problem: str
    ) -> list[PlainValue]:
        """A block whose keys are numbers stands for the list of its values, as in files of properties."""
        if isinstance(value, list):
            return value
        if isinstance(value, _Layers):
            made = self._made(value)
            if made and all(key.isascii() and key.isdecimal() for key in made):
                return [made[key] for key in sorted(made, key=int)]
        raise ConfigError(f"{text.at(offset)}: {problem}")
