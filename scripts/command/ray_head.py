"""``ray start`` without Ray's API server: nothing here asks it, it takes 90 MB, and nobody need watch it then.

Run as ``python -m filoray.command.ray_head start --head …``, with ``ray``'s own arguments. Ray has no option for it:
``--include-dashboard=false`` leaves out its pages only.
"""

from __future__ import annotations

import sys

from ray._private.node import Node
from ray.scripts.scripts import main


def _no_api_server(self: Node, **_: object) -> None:
    """In the place of ``Node.start_api_server``; a Ray that has no such method any more starts what it likes."""


if __name__ == "__main__":
    Node.start_api_server = _no_api_server  # type: ignore[method-assign]  # that is the point
    sys.exit(main())  # type: ignore[no-untyped-call]  # Ray's own
