"""What is known of a request at the door, for the handlers behind it: whose it is, and what its endpoint demands."""

from __future__ import annotations

from aiohttp import web

from filoray.http.access.access_policy import ANYBODY, Identity, Role
from filoray.http.access.route_access import RouteAccess

_ACCESS = web.RequestKey("access", RouteAccess)
_IDENTITY = web.RequestKey("identity", Identity)


def set_identity(request: web.Request, identity: Identity) -> None:
    request[_IDENTITY] = identity


def set_access(request: web.Request, access: RouteAccess) -> None:
    request[_ACCESS] = access


def access_of(request: web.Request) -> RouteAccess | None:
    """None where no endpoint is behind the path."""
    return request.get(_ACCESS)


def identity_of(request: web.Request) -> Identity:
    identity: Identity = request.get(_IDENTITY, ANYBODY)
    return identity


def check_dataset(request: web.Request, dataset: str) -> None:
    """Whether whoever asks may do with this dataset what the endpoint does. Raises Forbidden."""
    access = access_of(request)
    identity_of(request).check(Role.ADMIN if access is None else access.role, dataset)


def may_read(request: web.Request, dataset: str) -> bool:
    return identity_of(request).role(dataset) >= Role.READ
