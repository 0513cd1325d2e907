"""Proves who a request is from: the Authorization header in, an Identity out.

bcrypt is slow on purpose, so what proved right or wrong is remembered (as a keyed hash of the header, for the life of
one configuration) and the rest is hashed in a thread of its own, one at a time: floods of guesses wait there, and known
clients do not notice. A name that nobody has costs as much time as a wrong password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from filoray.cluster.errors import Unauthorized, Unavailable
from filoray.http.access.access_policy import ANYBODY, Identity
from filoray.http.access.web_config import Token, User, WebConfig

_Known = TypeVar("_Known")

_REMEMBERED_MAX = 1_000
_WAITING_MAX = 64
_PASSWORD_BYTES_MAX = 72
"""What bcrypt looks at of a password."""


class Authenticator:
    """``extra_tokens``: beside those of the configuration, such as the launcher's own."""

    def __init__(self, config: WebConfig, extra_tokens: Sequence[Token] = ()) -> None:
        self._users = dict(config.users)
        self._tokens = (*config.tokens, *extra_tokens)
        self._asks_who = config.asks_who
        schemes = ['Basic realm="filoray", charset="UTF-8"'] if self._users else []
        if config.tokens:
            schemes.append('Bearer realm="filoray"')
        self._challenge = ", ".join(schemes)
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, Identity] = {}
        self._wrong: dict[bytes, None] = {}
        self._checking: dict[bytes, asyncio.Future[Identity | None]] = {}
        self._thread = ThreadPoolExecutor(1, "passwords")  # ends with the last request that knows of this
        cost = max((user.cost for user in self._users.values()), default=4)
        self._nobody = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(cost)) if self._users else b""

    async def identify(self, authorization: str | None) -> Identity:
        """Raises Unauthorized; Unavailable where too many others wait for their passwords to be checked."""
        if not self._asks_who:
            return ANYBODY
        if authorization is None:
            raise Unauthorized("this server asks who you are: send a user and password, or a token", self._challenge)
        header = authorization.encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(header, key=self._key, digest_size=32).digest()
        known = self._right.get(digest)
        if known is not None:
            return known
        identity = None if digest in self._wrong else await self._proven(header, digest)
        if identity is None:
            raise Unauthorized("the user and password, or the token, are not right", self._challenge)
        return identity

    async def _proven(self, header: bytes, digest: bytes) -> Identity | None:
        scheme, _, credentials = header.strip().partition(b" ")
        credentials = credentials.strip()
        if scheme.lower() == b"bearer":
            return self._remember(digest, self._of_token(credentials))
        pair = _user_and_password(credentials) if scheme.lower() == b"basic" else None
        if pair is None or not self._users:
            return None
        checking = self._checking.get(digest)
        if checking is None:
            if len(self._checking) >= _WAITING_MAX:
                raise Unavailable(f"{_WAITING_MAX} other passwords wait to be checked; try again")
            checking = asyncio.get_running_loop().run_in_executor(self._thread, self._of_password, *pair)
            self._checking[digest] = checking
            checking.add_done_callback(lambda done: self._checked(digest, done))
        # A client that goes away must not take the check away from others who wait for it.
        return await asyncio.shield(checking)

    def _checked(self, digest: bytes, done: asyncio.Future[Identity | None]) -> None:
        self._checking.pop(digest, None)
        if not done.cancelled() and done.exception() is None:
            self._remember(digest, done.result())

    def _of_token(self, token: bytes) -> Identity | None:
        digest = hashlib.sha256(token).digest()
        found = None
        for known in self._tokens:  # all of them, whichever it is
            if hmac.compare_digest(known.digest, digest):
                found = known.identity
        return found

    def _of_password(self, name: bytes, password: bytes) -> Identity | None:
        user: User | None = self._users.get(name.decode("utf-8", "replace"))
        try:
            is_right = bcrypt.checkpw(
                password[:_PASSWORD_BYTES_MAX], self._nobody if user is None else user.password_hash
            )
        except ValueError:  # a zero byte: no password has one
            return None
        return user.identity if is_right and user is not None else None

    def _remember(self, digest: bytes, identity: Identity | None) -> Identity | None:
        if identity is None:
            _make_room(self._wrong)
            self._wrong[digest] = None
        else:
            _make_room(self._right)
            self._right[digest] = identity
        return identity


def _make_room(memory: dict[bytes, _Known]) -> None:
    if len(memory) >= _REMEMBERED_MAX:
        del memory[next(iter(memory))]


def _user_and_password(credentials: bytes) -> tuple[bytes, bytes] | None:
    try:
        name, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None
