"""Single keys from a terminal, as they are pressed and unseen; from anything else there are none."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType


class TerminalKeys:
    """While it is entered, the terminal gives keys one by one; afterwards it is as it was, whatever happened."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._before: list[object] | None = None

    def __enter__(self) -> TerminalKeys:
        if sys.stdin.isatty():
            self._descriptor = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None and self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def next(self, timeout_s: float) -> str:
        """The key that is pressed within that time, else ""."""
        if self._descriptor is None:
            time.sleep(max(0.0, timeout_s))
            return ""
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, timeout_s))
        return os.read(self._descriptor, 1).decode("latin-1") if ready else ""
