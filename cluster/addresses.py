"""Where a node is: FiloDB's address form, which its clients parse."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

HIGHEST_PORT = 65_535

_FORM = re.compile(r"akka://filo-server@(?P<host>\[[0-9a-fA-F:]+\]|[^:@/\s]+):(?P<port>\d{1,5})")


def is_loopback(host: str) -> bool:
    """Whether only processes of the same machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_any_interface(host: str) -> bool:
    """Whether it stands for all of a machine's addresses, so that others must be told one of them."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, order=True)
class NodeAddress:
    """HOST:PORT where a node's data plane listens. ``str()`` gives FiloDB's ``akka://…`` form."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"akka://filo-server@{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The ZeroMQ endpoint of the same place."""
        return f"tcp://{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> NodeAddress:
        """Read ``akka://filo-server@HOST:PORT``; raises ValueError naming the text and the form."""
        match = _FORM.fullmatch(text)
        if match is None or not 0 < int(match["port"]) <= HIGHEST_PORT:
            raise ValueError(f"{text!r} is not a node address of the form akka://filo-server@HOST:PORT")
        return cls(match["host"], int(match["port"]))
