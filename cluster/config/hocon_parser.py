"""HOCON's tokens to a tree of definitions, includes read in where they stand.

The grammar is that of https://github.com/lightbend/config/blob/main/HOCON.md. What may be included is the caller's
decision: ``Includes`` reads a file or refuses. Substitutions are left to ``hocon_resolver.py``.
"""

from __future__ import annotations

import re
from typing import Protocol

from filoray.cluster.config.hocon_tokens import Kind, Token, path_of, tokens
from filoray.cluster.config.hocon_tree import Appended, Block, Items, Joined, Node, Path, Plain, Substitution, Text
from filoray.cluster.config.parse_budget import ParseBudget
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue

_WORDS: dict[str, PlainValue] = {"true": True, "false": False, "null": None}
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")
_NUMBER_CHARACTERS_MAX = 25
_INCLUDE_FORMS = re.compile(r"(?:required\()?(?:(?:file|classpath|package|url)\()?")
_KEY_PARTS = (Kind.WORD, Kind.QUOTED, Kind.SPACE)
_VALUE_PARTS = (Kind.WORD, Kind.QUOTED, Kind.SUBSTITUTION)


class Includes(Protocol):
    def read(self, name: str, place: str, *, is_required: bool) -> tuple[Text, Includes] | None:
        """The text of an included file, and who reads what that includes; None if it is not there and need not be.

        Raises ConfigError, which names ``place``, where nothing may be included.
        """
        ...


def plain_word(word: str) -> PlainValue:
    """What an unquoted word alone means: a number only where that gives its characters back (``7``, not ``007``)."""
    if word in _WORDS:
        return _WORDS[word]
    if len(word) <= _NUMBER_CHARACTERS_MAX and _NUMBER.fullmatch(word):
        for convert in (int, float):
            try:
                number = convert(word)
            except ValueError:
                continue
            if str(number) == word and abs(number) < 2**63:
                return number
    return word


def parse(
    text: Text, includes: Includes, budget: ParseBudget, prefixes: tuple[Path, ...] = (), depth: int = 0
) -> Block:
    """The root's definitions. Raises ConfigError with place, line and column."""
    return _Parser(text, includes, budget, prefixes, depth).parse()


class _Parser:
    def __init__(
        self, text: Text, includes: Includes, budget: ParseBudget, prefixes: tuple[Path, ...], depth: int
    ) -> None:
        self._text = text
        self._includes = includes
        self._budget = budget
        self._prefixes = prefixes
        self._tokens = tokens(text, budget)
        self._depth = depth
        self._where: Path = ()
        self._token = next(self._tokens)

    def parse(self) -> Block:
        self._skip(Kind.SPACE, Kind.NEWLINE)
        if self._is("["):
            raise ConfigError(f"{self._at()}: a configuration is a set of keys and values, not a list")
        root = Block()
        if self._is("{"):
            self._block(root)
            self._skip(Kind.SPACE, Kind.NEWLINE)
        else:
            self._fields(root)
        if self._token.kind is not Kind.END:
            raise self._unexpected("the end of the text")
        return root

    # ---- blocks

    def _block(self, block: Block) -> None:
        opened = self._token
        self._enter()
        self._fields(block)
        self._leave("}", opened)

    def _fields(self, block: Block) -> None:
        is_after_comma = True
        while True:
            self._skip(Kind.SPACE, Kind.NEWLINE)
            if self._token.kind is Kind.END or self._is("}"):
                return
            if self._is(","):
                if is_after_comma:
                    raise self._unexpected("a key")
                is_after_comma = True
                self._next()
                continue
            is_after_comma = False
            if self._token.kind is Kind.WORD and self._token.text == "include":
                self._include(block)
            else:
                self._field(block)
            self._end_of_entry("}")

    def _field(self, block: Block) -> None:
        start = self._token
        parts: list[Token] = []
        while self._token.kind in _KEY_PARTS:
            parts.append(self._token)
            self._next()
        while parts and parts[-1].kind is Kind.SPACE:
            parts.pop()
        if not parts:
            raise self._unexpected("a key")
        path = path_of(parts, self._text)
        self._skip(Kind.SPACE, Kind.NEWLINE)
        self._budget.add_value()
        self._budget.check_depth(self._depth + len(path))
        sign = self._token
        if sign.kind is Kind.SIGN and sign.text in ("=", ":", "+="):
            self._next()
            self._skip(Kind.SPACE, Kind.NEWLINE)
        elif not self._is("{"):
            raise self._unexpected("=, :, += or { after the key")
        outer, self._where = self._where, self._where + path
        self._depth += len(path) - 1
        value = self._value()
        self._depth -= len(path) - 1
        self._where = outer
        if sign.text == "+=":
            value = Appended(value, start.offset, self._text)
        _define(block, path, value)

    # ---- values

    def _value(self) -> Node:
        """Everything up to the comma, line or bracket that ends the value."""
        pieces: list[Node] = []
        start = self._token
        space: Token | None = None
        before: Node | None = None
        while True:
            token = self._token
            if token.kind is Kind.SPACE:
                space = token
                self._next()
                continue
            if token.kind not in _VALUE_PARTS and not (self._is("{") or self._is("[")):
                break
            if space is not None and pieces:
                pieces.append(Plain(space.text, space.text, is_space=True))
            space = None
            self._budget.add_value()
            piece = self._piece(token)
            if isinstance(piece, Block) and isinstance(before, Block):
                _merge(before, piece)
                continue
            before = piece
            pieces.append(piece)
        if not pieces:
            raise self._unexpected("a value")
        if len(pieces) == 1:
            return pieces[0]
        if all(isinstance(piece, Plain) for piece in pieces):
            joined = "".join(piece.text for piece in pieces if isinstance(piece, Plain))
            return Plain(joined, joined)
        return Joined(pieces, start.offset, self._text)

    def _piece(self, token: Token) -> Node:
        if token.kind is Kind.SIGN:
            if token.text == "[":
                return self._items()
            block = Block()
            self._block(block)
            return block
        self._next()
        if token.kind is Kind.WORD:
            return Plain(plain_word(token.text), token.text)
        if token.kind is Kind.QUOTED:
            return Plain(token.text, token.text)
        return self._substitution(token)

    def _items(self) -> Items:
        opened = self._token
        items: list[Node] = []
        outer, self._where = self._where, ()
        self._enter()
        is_after_comma = True
        while True:
            self._skip(Kind.SPACE, Kind.NEWLINE)
            if self._is("]") or self._token.kind is Kind.END:
                break
            if self._is(","):
                if is_after_comma:
                    raise self._unexpected("a value")
                is_after_comma = True
                self._next()
                continue
            is_after_comma = False
            items.append(self._value())
            self._end_of_entry("]")
        self._leave("]", opened)
        self._where = outer
        return Items(items, opened.offset)

    def _substitution(self, token: Token) -> Substitution:
        is_optional = token.text.startswith("?")
        start = token.offset + 2 + is_optional
        inside = tokens(self._text, self._budget, start, token.offset + 2 + len(token.text))
        parts: list[Token] = []
        while (part := next(inside)).kind is not Kind.END:
            if part.kind not in _KEY_PARTS:
                raise ConfigError(
                    f"{self._text.at(part.offset)}: cannot be parsed: {part.text!r} in a substitution's path"
                )
            parts.append(part)
        while parts and parts[-1].kind is Kind.SPACE:
            parts.pop()
        while parts and parts[0].kind is Kind.SPACE:
            parts.pop(0)
        if not parts:
            raise ConfigError(f"{self._text.at(token.offset)}: cannot be parsed: a substitution needs a path")
        path = path_of(parts, self._text)
        return Substitution(path, is_optional, token.offset, self._text, self._prefixes)

    # ---- includes

    def _include(self, block: Block) -> None:
        start = self._token
        self._next()
        self._skip(Kind.SPACE, Kind.NEWLINE)
        wrappers = ""
        while self._token.kind is Kind.WORD and len(wrappers) < 20:
            wrappers += self._token.text
            self._next()
            self._skip(Kind.SPACE, Kind.NEWLINE)
        name = self._token
        if name.kind is not Kind.QUOTED or not _INCLUDE_FORMS.fullmatch(wrappers):
            raise ConfigError(
                f"{self._text.at(start.offset)}: cannot be parsed: include is not followed by a quoted file name; "
                'quote "include" where it is a key'
            )
        self._next()
        for _ in range(wrappers.count("(")):
            self._skip(Kind.SPACE, Kind.NEWLINE)
            closing = self._token.text if self._token.kind is Kind.WORD else ""
            if not closing or set(closing) != {")"}:
                break
            wrappers = wrappers.replace("(", "", len(closing))
            self._next()
        if "(" in wrappers:
            raise self._unexpected(") after the included file's name")
        place = self._text.at(start.offset)
        if wrappers.endswith("url") or "://" in name.text:
            raise ConfigError(f"{place}: include reads files only, not {name.text!r}")
        found = self._includes.read(name.text, place, is_required=wrappers.startswith("required"))
        if found is not None:
            text, includes = found
            prefixes = (self._base() + self._where, *self._prefixes)
            _merge(block, parse(text, includes, self._budget, prefixes, self._depth))

    def _base(self) -> Path:
        return self._prefixes[0] if self._prefixes else ()

    # ---- tokens

    def _enter(self) -> None:
        self._depth += 1
        self._budget.check_depth(self._depth)
        self._next()

    def _leave(self, closing: str, opened: Token) -> None:
        self._depth -= 1
        if not self._is(closing):
            raise self._unexpected(f"{closing} for the {opened.text} of {self._text.at(opened.offset)}")
        self._next()

    def _end_of_entry(self, closing: str) -> None:
        self._skip(Kind.SPACE)
        if self._token.kind not in (Kind.NEWLINE, Kind.END) and not self._is(",") and not self._is(closing):
            raise self._unexpected(f"a comma, a new line or {closing}")

    def _is(self, sign: str) -> bool:
        return self._token.kind is Kind.SIGN and self._token.text == sign

    def _skip(self, *kinds: Kind) -> None:
        while self._token.kind in kinds:
            self._next()

    def _next(self) -> None:
        self._token = next(self._tokens)

    def _at(self) -> str:
        return self._text.at(self._token.offset)

    def _unexpected(self, wanted: str) -> ConfigError:
        token = self._token
        shown = token.kind.value if token.kind in (Kind.NEWLINE, Kind.END, Kind.SPACE) else repr(token.text[:40])
        return ConfigError(f"{self._at()}: cannot be parsed: unexpected {shown}; wanted is {wanted}")


def _define(block: Block, path: Path, value: Node) -> None:
    """Add a definition; a block, or the blocks of a longer path, merges with what was defined last if it was one."""
    for key in path[:-1]:
        definitions = block.fields.setdefault(key, [])
        if not definitions or not isinstance(definitions[-1], Block):
            definitions.append(Block())
        inner = definitions[-1]
        assert isinstance(inner, Block)
        block = inner
    definitions = block.fields.setdefault(path[-1], [])
    last = definitions[-1] if definitions else None
    if isinstance(value, Block) and isinstance(last, Block):
        _merge(last, value)
    else:
        definitions.append(value)


def _merge(block: Block, later: Block) -> None:
    for key, definitions in later.fields.items():
        for definition in definitions:
            _define(block, (key,), definition)
