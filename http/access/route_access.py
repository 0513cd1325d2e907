"""What each endpoint demands of whoever asks: the one table of it, by method and pattern.

An endpoint that is not named here is taken for one that changes something, and is for admins of the whole cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from filoray.http.access.access_policy import Role

PREFIXES = ("/api/v1", "/promql/{dataset}/api/v1")


class Scope(Enum):
    OPEN = auto()
    """For whoever asks, without a name: it says nothing, or browsers ask it before they ask their user."""
    KNOWN = auto()
    """For everybody who proved a name; the answer has what they may see."""
    CLUSTER = auto()
    """For those who have the role for the whole cluster."""
    DATASET = auto()
    """For those who have the role for the dataset: the path's, else the one that ``choose_dataset`` chooses."""


@dataclass(frozen=True, slots=True)
class RouteAccess:
    """``changes_state``: for programs and this server's own page. ``is_query_api``: configured pages may read it."""

    scope: Scope
    role: Role
    changes_state: bool
    is_query_api: bool


_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
_CLUSTER_PATH = "/api/v1/cluster/{dataset}"

_FORMS_ON_DATASET = ("query", "query_range", "series", "labels")
_READS_DATASET = (*_FORMS_ON_DATASET, "label/{name}/values", "metadata")
_FORMS_ON_TEXT = ("format_query", "parse_query")
_READS_TEXT = (*_FORMS_ON_TEXT, "status/buildinfo")
_QUERY_API = frozenset(f"{prefix}/{path}" for prefix in PREFIXES for path in (*_READS_DATASET, *_READS_TEXT))

ACCESS_BY_ENDPOINT: dict[tuple[str, str], tuple[Scope, Role]] = {
    ("GET", "/__health"): (Scope.OPEN, Role.NONE),
    ("GET", "/admin/health"): (Scope.OPEN, Role.NONE),
    ("GET", "/"): (Scope.KNOWN, Role.NONE),
    ("GET", "/__members"): (Scope.KNOWN, Role.NONE),
    ("GET", "/__seeds"): (Scope.KNOWN, Role.NONE),
    ("GET", "/metrics"): (Scope.CLUSTER, Role.READ),
    ("GET", "/admin/figures"): (Scope.CLUSTER, Role.READ),
    ("GET", "/admin/actors"): (Scope.CLUSTER, Role.ADMIN),
    ("GET", "/admin/chaos"): (Scope.CLUSTER, Role.ADMIN),
    ("POST", "/admin/loglevel/{logger}"): (Scope.CLUSTER, Role.ADMIN),
    ("GET", "/admin/nodes"): (Scope.CLUSTER, Role.READ),
    ("POST", "/admin/nodes/{node}/drain"): (Scope.CLUSTER, Role.ADMIN),
    ("POST", "/admin/nodes/{node}/undrain"): (Scope.CLUSTER, Role.ADMIN),
    ("GET", "/admin/rolling-restart"): (Scope.CLUSTER, Role.READ),
    ("POST", "/admin/rolling-restart"): (Scope.CLUSTER, Role.ADMIN),
    ("GET", "/api/v1/cluster"): (Scope.KNOWN, Role.NONE),
    ("GET", f"{_CLUSTER_PATH}/status"): (Scope.DATASET, Role.READ),
    ("GET", f"{_CLUSTER_PATH}/statusByAddress"): (Scope.DATASET, Role.READ),
    ("GET", f"{_CLUSTER_PATH}/shards/{{shard}}/story"): (Scope.DATASET, Role.READ),
    ("POST", _CLUSTER_PATH): (Scope.DATASET, Role.ADMIN),
    ("DELETE", _CLUSTER_PATH): (Scope.DATASET, Role.ADMIN),
    ("POST", f"{_CLUSTER_PATH}/stopshards"): (Scope.DATASET, Role.ADMIN),
    ("POST", f"{_CLUSTER_PATH}/startshards"): (Scope.DATASET, Role.ADMIN),
    ("POST", f"{_CLUSTER_PATH}/moveshards"): (Scope.DATASET, Role.ADMIN),
    ("GET", "/api/v1/queries"): (Scope.KNOWN, Role.NONE),
    ("DELETE", "/api/v1/queries/{id}"): (Scope.KNOWN, Role.ADMIN),  # of the query's dataset, which the handler knows
    **{("OPTIONS", path): (Scope.OPEN, Role.NONE) for path in _QUERY_API},
    **{
        (method, f"{prefix}/{path}"): (Scope.DATASET, Role.READ)
        for method, paths in (("GET", _READS_DATASET), ("POST", (*_FORMS_ON_DATASET, "read")))
        for prefix in PREFIXES
        for path in paths
    },
    **{
        (method, f"{prefix}/{path}"): (Scope.KNOWN, Role.NONE)
        for method, paths in (("GET", _READS_TEXT), ("POST", _FORMS_ON_TEXT))
        for prefix in PREFIXES
        for path in paths
    },
    **{("POST", f"{prefix}/write"): (Scope.DATASET, Role.WRITE) for prefix in PREFIXES},
}
"""By method and pattern as it is registered; GET stands for HEAD too."""


def route_access(method: str, path: str) -> RouteAccess:
    """``path``: the pattern as it is registered."""
    scope, role = ACCESS_BY_ENDPOINT.get(("GET" if method == "HEAD" else method, path), (Scope.CLUSTER, Role.ADMIN))
    is_query_api = path in _QUERY_API
    return RouteAccess(scope, role, method not in _SAFE_METHODS and not is_query_api, is_query_api)
