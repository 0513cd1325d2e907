"""How the answer to a remote write tells of refused samples: a sentence for people, a header for programs.

    X-Filoray-Write-Outcome: {"accepted": 4, "refused": {"too old": 2}, "example": "up{}: the sample 1.0 at ..."}

The header is ASCII (JSON's escapes) and short enough for what any proxy takes; only a long example is cut for it.
"""

from __future__ import annotations

import json

from filoray.nodes.data.write_outcome import RefusalReason, WriteOutcome

OUTCOME_HEADER = "X-Filoray-Write-Outcome"
_HEADER_CHARACTERS_MAX = 3_600
"""Proxies may have a page of 4 KiB for all headers together. Examples are mostly below 700 characters."""
_ESCAPED_CHARACTERS_MAX = 12
"""What one character may become: two escapes of six."""


def refusal_text(outcome: WriteOutcome) -> str:
    """Of an outcome with refused samples."""
    counts = ", ".join(f"{reason}: {count}" for reason, count in sorted(outcome.refused.items()))
    return f"{outcome.refused_count} samples were refused ({counts}), {outcome.accepted} were stored" + (
        f"; for example {outcome.example}" if outcome.example else ""
    )


def outcome_header(outcome: WriteOutcome) -> str:
    text = _as_json(outcome, outcome.example)
    if len(text) > _HEADER_CHARACTERS_MAX:
        room = _HEADER_CHARACTERS_MAX - len(_as_json(outcome, "..."))
        text = _as_json(outcome, outcome.example[: room // _ESCAPED_CHARACTERS_MAX] + "...")
    return text


def read_outcome_header(text: str) -> WriteOutcome | None:
    """None for what ``outcome_header`` of this version does not write."""
    try:
        match json.loads(text):
            case {"accepted": int(accepted), "refused": dict(refused), "example": str(example)}:
                counts = {RefusalReason(reason): int(count) for reason, count in refused.items()}
                return WriteOutcome(accepted, counts, example)
    except (ValueError, TypeError):
        pass
    return None


def _as_json(outcome: WriteOutcome, example: str) -> str:
    return json.dumps({"accepted": outcome.accepted, "refused": outcome.refused, "example": example})
