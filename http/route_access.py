"""What each endpoint demands of whoever asks: the one table of it, by method and pattern.

An endpoint that is not named here is taken for one that changes something.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIXES = ("/api/v1", "/promql/{dataset}/api/v1")

_QUERY_API = frozenset(
    f"{prefix}/{path}"
    for prefix in PREFIXES
    for path in (
        "query",
        "query_range",
        "format_query",
        "parse_query",
        "series",
        "labels",
        "label/{name}/values",
        "metadata",
        "status/buildinfo",
    )
)
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class RouteAccess:
    """``changes_state``: for programs and this server's own page. ``is_query_api``: configured pages may read it."""

    changes_state: bool
    is_query_api: bool


def route_access(method: str, path: str) -> RouteAccess:
    """``path``: the pattern as it is registered."""
    is_query_api = path in _QUERY_API
    return RouteAccess(changes_state=method not in _SAFE_METHODS and not is_query_api, is_query_api=is_query_api)
