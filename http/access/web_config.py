"""The file that says who may come in: Prometheus's web configuration, and roles and tokens of ours. Text in, data out.

Prometheus's keys mean what they mean there (https://prometheus.io/docs/prometheus/latest/configuration/https/); its
users may do everything, unless the block ``filoray``, which is ours, gives them less::

    tls_server_config: {cert_file: server.crt, key_file: server.key}
    basic_auth_users: {alice: $2y$10$…, grafana: $2y$10$…}
    filoray:
      users:  {grafana: {roles: {"*": read}}}
      tokens: [{name: agent, sha256: 2c26…, roles: {timeseries: write}}]

Unknown and doubled keys are errors, as there. What Python's TLS cannot do is refused by name, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from filoray.cluster.config.http_config import HttpConfig
from filoray.cluster.errors import ConfigError
from filoray.http.access.access_policy import EVERYTHING, Identity, Role

MAX_BYTES = 1024 * 1024
_COST_MAX = 16

ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
TlsVersion = Literal["TLS10", "TLS11", "TLS12", "TLS13"]

_BCRYPT = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROLES = {str(role): role for role in Role if role}
_HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Go's names of the cipher suites it thinks safe (before TLS 1.3, whose suites nobody chooses), and OpenSSL's."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """``ciphers``: OpenSSL's names, none for its defaults. ``client_sans``: one must be in a client's certificate."""

    cert_file: Path
    key_file: Path
    client_auth: ClientAuth = "NoClientCert"
    client_ca_file: Path | None = None
    client_sans: tuple[str, ...] = ()
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True

    def files(self) -> list[Path]:
        return [self.cert_file, self.key_file, *([self.client_ca_file] if self.client_ca_file else [])]


@dataclass(frozen=True, slots=True)
class User:
    """``password_hash``: bcrypt's text, ``cost`` of it the binary logarithm of its rounds."""

    identity: Identity
    password_hash: bytes
    cost: int


@dataclass(frozen=True, slots=True)
class Token:
    """``digest``: SHA-256 of the token; the token itself is written nowhere."""

    identity: Identity
    digest: bytes


@dataclass(frozen=True, slots=True)
class WebConfig:
    tls: TlsSettings | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    tokens: tuple[Token, ...] = ()

    @property
    def asks_who(self) -> bool:
        """Whether requests must prove who they are from."""
        return bool(self.users or self.tokens)

    @property
    def keeps_strangers_out(self) -> bool:
        return self.asks_who or (self.tls is not None and self.tls.client_auth == "RequireAndVerifyClientCert")


def launcher_tokens(http: HttpConfig) -> list[Token]:
    """What gateways let in beside the file's users and tokens: what the launcher of the cluster proves itself with."""
    if http.launcher_token_sha256 is None:
        return []
    return [Token(Identity("the launcher", {EVERYTHING: Role.ADMIN}), bytes.fromhex(http.launcher_token_sha256))]


def parse_web_config(text: str, name: str, directory: Path) -> WebConfig:
    """``name``: of the file, for errors; ``directory``: where relative paths begin. Raises ConfigError."""
    try:
        tree = yaml.load(text, _StrictLoader)
    except Exception as error:  # PyYAML's own, and whatever its constructors trip over: !!bool x, !!timestamp x
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None
    top = _Block({} if tree is None else tree, name, "")
    tls = top.block("tls_server_config")
    headers = top.block("http_server_config")
    users = top.block("basic_auth_users")
    ours = top.block("filoray")
    top.finish()
    people, tokens = _users(users, ours.block("users")), _tokens(ours)
    ours.finish()
    return WebConfig(_tls(tls, directory) if tls.values else None, _headers(headers), people, tokens)


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML as Go's strict decoder takes it: a key stands once, and nothing is made of text that looks like a date.

    The signature is PyYAML's.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConstructionError(None, None, f"{key!r} is no text; put it in quotes", key_node.start_mark)
            if key in seen:
                raise ConstructionError(None, None, f"{key} is there twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=True)
        return mapping


ConstructionError = yaml.constructor.ConstructorError
# A bcrypt hash or a name never becomes anything but text: only booleans are of another kind here.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Block:
    """One level of the file: getters remember what was asked for, ``finish`` refuses the rest."""

    def __init__(self, values: object, name: str, path: str) -> None:
        self._name, self._path = name, path
        if not isinstance(values, dict):
            raise self.error("", f"{values!r} is not a block of keys")
        self.values: dict[str, object] = values
        self._read: set[str] = set()

    def error(self, key: str, problem: str) -> ConfigError:
        path = ".".join(part for part in (self._path, key) if part)
        return ConfigError(f"{self._name}: {path + ': ' if path else ''}{problem}")

    def block(self, key: str) -> _Block:
        """Empty where the key is not there."""
        value = self._get(key)
        return _Block({} if value is None else value, self._name, ".".join(part for part in (self._path, key) if part))

    def text(self, key: str) -> str | None:
        value = self._get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.error(key, f"{value!r} is not a text")
        return value

    def needed_text(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise self.error(key, "this key is needed and missing")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(key) or default
        if value not in choices:
            raise self.error(key, f"{value!r} is not one of {', '.join(choices)}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, f"{value!r} is not true or false")
        return default if value is None else value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(key, f"{value!r} is not a list of texts")
        return tuple(value)

    def blocks(self, key: str) -> list[_Block]:
        value = self._get(key) or []
        if not isinstance(value, list):
            raise self.error(key, f"{value!r} is not a list")
        path = ".".join(part for part in (self._path, key) if part)
        return [_Block(item, self._name, f"{path}[{index}]") for index, item in enumerate(value)]

    def finish(self) -> None:
        for key in self.values:
            if key not in self._read:
                raise self.error(key, f"there is no such key; known here: {', '.join(sorted(self._read))}")

    def _get(self, key: str) -> object:
        self._read.add(key)
        return self.values.get(key)


def _tls(block: _Block, directory: Path) -> TlsSettings:
    for key in ("cert", "key", "client_ca"):
        if block.text(key) is not None:
            raise block.error(key, f"only files are read here; give {key}_file")
    if block.texts("curve_preferences"):
        raise block.error("curve_preferences", "Python's TLS does not let one choose curves; leave it out")
    given_auth = block.text("client_auth_type") or "NoClientCert"
    if given_auth in ("RequestClientCert", "RequireAnyClientCert"):
        raise block.error("client_auth_type", f"{given_auth} verifies nothing; use RequireAndVerifyClientCert")
    ca = block.text("client_ca_file")
    ciphers = block.texts("cipher_suites")
    for cipher in ciphers:
        if cipher not in _CIPHERS:
            raise block.error("cipher_suites", f"{cipher!r} is not one of {', '.join(_CIPHERS)}")
    settings = TlsSettings(
        cert_file=directory / block.needed_text("cert_file"),
        key_file=directory / block.needed_text("key_file"),
        client_auth=cast(ClientAuth, block.choice("client_auth_type", get_args(ClientAuth), "NoClientCert")),
        client_ca_file=None if ca is None else directory / ca,
        client_sans=block.texts("client_allowed_sans"),
        min_version=cast(TlsVersion, block.choice("min_version", get_args(TlsVersion), "TLS12")),
        max_version=cast(TlsVersion, block.choice("max_version", get_args(TlsVersion), "TLS13")),
        ciphers=tuple(_CIPHERS[cipher] for cipher in ciphers),
        prefer_server_ciphers=block.flag("prefer_server_cipher_suites", default=True),
    )
    block.finish()
    if settings.min_version > settings.max_version:
        raise block.error("min_version", f"{settings.min_version} is above max_version {settings.max_version}")
    if settings.client_auth == "NoClientCert" and (ca is not None or settings.client_sans):
        raise block.error("client_auth_type", "NoClientCert looks at no certificate; RequireAndVerifyClientCert does")
    if settings.client_auth != "NoClientCert" and ca is None:
        raise block.error("client_ca_file", f"{settings.client_auth} needs it, to verify certificates by")
    return settings


def _headers(block: _Block) -> dict[str, str]:
    block.flag("http2", default=False)  # HTTP/1.1 is what is spoken; a client that may use 2 need not
    headers = block.block("headers")
    block.finish()
    given = {name: text for name in _HEADERS if (text := headers.text(name)) is not None}
    headers.finish()
    for name, text in given.items():
        if not text.isascii() or not text.isprintable():
            raise headers.error(name, f"{text!r} cannot stand in a header")
    return given


def _users(passwords: _Block, roles: _Block) -> dict[str, User]:
    users = {}
    for name in passwords.values:
        hashed = passwords.needed_text(name)
        match = _BCRYPT.fullmatch(hashed)
        if match is None or not 4 <= int(match[1]) <= _COST_MAX:
            raise passwords.error(
                name,
                f"this is not a bcrypt hash of a cost up to {_COST_MAX}; filoray password-hash makes them",
            )
        if not name or ":" in name:
            raise passwords.error(name, "a user's name cannot be empty or have a colon")
        granted = _roles(roles.block(name)) if name in roles.values else {EVERYTHING: Role.ADMIN}
        users[name] = User(Identity(name, granted), hashed.encode(), int(match[1]))
    for name in roles.values:
        if name not in users:
            raise roles.error(name, "there is no such user in basic_auth_users")
    return users


def _tokens(ours: _Block) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for block in ours.blocks("tokens"):
        name, digest = block.needed_text("name"), block.needed_text("sha256").lower()
        if not _SHA256.fullmatch(digest):
            raise block.error(
                "sha256", "this is not the 64 hexadecimal digits of a SHA-256; filoray new-token prints them"
            )
        if any(token.identity.name == name or token.digest.hex() == digest for token in tokens):
            raise block.error("name", f"the token {name} is there twice")
        tokens.append(Token(Identity(name, _roles(block)), bytes.fromhex(digest)))
    return tuple(tokens)


def _roles(block: _Block) -> dict[str, Role]:
    given = block.block("roles")
    roles = {}
    for dataset in given.values:
        roles[dataset] = _ROLES[given.choice(dataset, tuple(_ROLES), "")]
    if not roles:
        raise block.error("roles", 'at least one is needed, such as {"*": read}')
    for key in block.values:
        if key not in ("roles", "name", "sha256"):
            raise block.error(key, "there is no such key; known here: roles")
    return roles
