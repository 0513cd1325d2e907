"""Which names this server answers to, and which web pages may make a browser ask it something.

A browser sends requests for any page it shows, to loopback too. Two things tell a page of ours from a stranger's: the
Host header, which names the page's own site when its author points a name of theirs at this machine (DNS rebinding),
and Origin and Sec-Fetch-Site, which no script can forge. Programs (curl, Prometheus) send neither of the latter.

Pure: headers in, decisions out. ``request_guard`` asks, before a body is read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import re2

from filoray.cluster.addresses import is_any_interface, is_loopback
from filoray.cluster.errors import Forbidden

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/?#@\[\]\\]+))(?::([0-9]{1,5}))?", re.ASCII)
_REMEMBERED_MAX = 1_000
_ANY_ORIGIN = "^(?:.*)$"
_SHOWN_CHARACTERS = 200


def host_of(authority: str) -> str | None:
    """The lower-case name or address of ``HOST[:PORT]``, without brackets and last dot; None if it is none."""
    match = _AUTHORITY.fullmatch(authority.strip())
    if match is None:
        return None
    host = (match[1] or match[2]).lower()
    return host.removesuffix(".") or None


class HostPolicy:
    """``listening_host``: what the server listens on. ``own_names``: this machine's, answered to where others reach it.

    ``allowed``: configured names and addresses; ``.example.org`` is that domain with all below it, ``*`` is everything.
    """

    def __init__(self, listening_host: str, allowed: Iterable[str] = (), own_names: Iterable[str] = ()) -> None:
        entries = {entry.lower().removesuffix(".") for entry in allowed}
        self._everything = "*" in entries
        self._domains = tuple(entry for entry in entries if entry.startswith("."))
        self._hosts = {entry.strip("[]") for entry in entries} | {"localhost"}
        if not is_any_interface(listening_host):
            self._hosts.add(listening_host.lower())
        if not is_loopback(listening_host):
            self._hosts.update(name.lower() for name in own_names if name)
        self._remembered: set[str] = set()

    def check(self, authority: str, local_address: str | None) -> None:
        """``authority``: the Host header. ``local_address``: this machine's end of the connection. Raises Forbidden.

        An address as host is no name that somebody could point here: the one that was connected to is right.
        """
        if self._everything or authority in self._remembered:
            return
        if not self._allows(authority, local_address):
            raise Forbidden(
                f"this server does not answer to the host {authority[:_SHOWN_CHARACTERS]!r}; it answers to localhost, "
                "to the addresses it listens on, and to the names in filoray.http.allowed-hosts"
            )
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered.add(authority)

    def _allows(self, authority: str, local_address: str | None) -> bool:
        host = host_of(authority)
        if host is None:
            return False
        address = _canonical_address(host)
        if address is not None and (
            is_loopback(address) or (local_address is not None and address == _canonical_address(local_address))
        ):
            return True
        return (
            host in self._hosts
            or (address is not None and address in self._hosts)
            or any(f".{host}".endswith(domain) for domain in self._domains)
        )


def _canonical_address(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0] if ":" in text else text)  # IPv6 has zones
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def check_same_origin(
    scheme: str, authority: str | None, origin: str | None, fetch_site: str | None, action: str
) -> None:
    """For a request that changes something: it comes from no browser, or from a page of this very server.

    ``scheme`` and ``authority``: of the request; a proxy in front that adds TLS is seen through as long as it passes
    Host on. ``origin``, ``fetch_site``: its headers Origin and Sec-Fetch-Site. Raises Forbidden, naming ``action``.
    """
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        raise _other_page(action, f"Sec-Fetch-Site is {fetch_site[:_SHOWN_CHARACTERS]!r}")
    if origin is not None and not _is_own(scheme, authority, origin):
        raise _other_page(action, f"Origin is {origin[:_SHOWN_CHARACTERS]!r}")


def _is_own(scheme: str, authority: str | None, origin: str) -> bool:
    if authority is None:
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return False
    # What is served here in plain may be https to the browser (a proxy in front), never the other way round.
    if scheme == "https" and parts.scheme != "https":
        return False
    return f"{parts.scheme}://{parts.netloc}" == origin and parts.netloc.lower() == authority.strip().lower()


def _other_page(action: str, seen: str) -> Forbidden:
    return Forbidden(f"{action} is not for pages of other sites ({seen}): only this server's own page may do it")


class CorsPolicy:
    """Which pages may read answers of the query API: Prometheus's ``--web.cors.origin`` and its headers.

    ``pattern``: a regular expression (RE2) for the whole Origin; "" for no page. Raises ValueError if it is none.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = f"^(?:{pattern})$"
        try:
            self._regex = re2.compile(self._pattern)
        except re2.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None

    def headers(self, origin: str | None) -> dict[str, str]:
        """What to add to an answer of the query API."""
        if not origin:
            return {}
        headers = {
            "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, Origin",
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Expose-Headers": "Date",
            "Vary": "Origin",
        }
        if self._pattern == _ANY_ORIGIN:
            headers["Access-Control-Allow-Origin"] = "*"
        elif origin.isascii() and self._regex.fullmatch(origin):  # browsers send no others
            headers["Access-Control-Allow-Origin"] = origin
        return headers
