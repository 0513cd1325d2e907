"""Random faults of a scenario, drawn from a seed: the same seed and stage give the same faults.

Kinds are dealt like cards: each kind that can be played comes once before any comes again, so that a short scenario has
as many kinds as a long one. A fault that does not end by itself comes with its remedy and when that is due. Both are
steps in a scenario's own words.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from filoray.cluster.chaos.actions import Deed
from filoray.cluster.chaos.language import parse_deed
from filoray.cluster.chaos.worlds import Stage, Word, word_of
from filoray.cluster.errors import BadData

KINDS: tuple[tuple[str, str], ...] = (
    ("kill node {index}", ""),
    ("kill gateway {index}", ""),
    ("kill coordinator", ""),
    ("kill seed", ""),
    ("kill raylet", ""),
    ("lose disk of node {index}", ""),
    ("hang node {index}", "resume node {index}"),
    ("hang gateway {index}", "resume gateway {index}"),
    ("hang coordinator", "resume coordinator"),
    ("cut node {index} from coordinator", "heal node {index}"),
    ("cut node {index} from coordinator one way", "heal node {index}"),
    ("cut coordinator from node {index} one way", "heal node {index}"),
    ("cut gateway {index} from coordinator", "heal gateway {index}"),
    ("slow links {delay_ms}ms", "restore links"),
    ("fill disk", "free disk"),
    ("slow disk {delay_ms}ms", "restore disk"),
    ("drain node {index}", "undrain node {index}"),
    ("jump clock {jump_min}m ahead", ""),
    ("jump clock {jump_min}m behind", ""),
)
"""What is drawn, each with its remedy."""

_DELAY_MS_MAX = 300
_JUMP_MIN_MAX = 600
_LASTING_SHARE_MIN, _LASTING_SHARE_MAX = 0.1, 0.8


@dataclass(frozen=True, slots=True)
class DrawnFault:
    """``remedy`` None: it is over at once, or mended by the cluster itself."""

    text: str
    deed: Deed
    remedy_text: str = ""
    remedy: Deed | None = None
    remedy_after_ms: int = 0


class FaultInjector:
    """``stage``: faults that cannot be played there are not drawn. Raises BadData if none can.

    ``has_copies``: of a shard there may be several, so that a node may lose its disk.
    """

    def __init__(self, seed: int, node_count: int, stage: Stage, *, has_copies: bool = False) -> None:
        self._dice = random.Random(f"chaos {seed}")
        self._node_count = node_count
        playable = [kind for kind in KINDS if has_copies or _word_of(kind) is not Word.LOST_DISK]
        self._kinds = [kind for kind in playable if not stage.refusal(_word_of(kind))]
        self._deck: list[tuple[str, str]] = []
        if not self._kinds:
            raise BadData(f"no random fault can be played by {stage.world.value}")

    @property
    def words(self) -> set[Word]:
        """What it may draw."""
        return {_word_of(kind) for kind in self._kinds}

    def draw(self, lasting_ms_max: int) -> DrawnFault:
        """``lasting_ms_max``: when the fault must be remedied at the latest."""
        if not self._deck:
            self._deck = self._dice.sample(self._kinds, len(self._kinds))
        return self._fill(self._deck.pop(), lasting_ms_max)

    def _fill(self, kind: tuple[str, str], lasting_ms_max: int) -> DrawnFault:
        drawn = {
            "index": self._dice.randrange(self._node_count),
            "delay_ms": self._dice.randint(10, _DELAY_MS_MAX),
            "jump_min": self._dice.randint(1, _JUMP_MIN_MAX),
        }
        share = self._dice.uniform(_LASTING_SHARE_MIN, _LASTING_SHARE_MAX)
        text, remedy_text = (form.format_map(drawn) for form in kind)
        if not remedy_text:
            return DrawnFault(text, parse_deed(text))
        return DrawnFault(text, parse_deed(text), remedy_text, parse_deed(remedy_text), round(share * lasting_ms_max))


def _word_of(kind: tuple[str, str]) -> Word:
    return word_of(parse_deed(kind[0].format(index=0, delay_ms=_DELAY_MS_MAX, jump_min=_JUMP_MIN_MAX)))
