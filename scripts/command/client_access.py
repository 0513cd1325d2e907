"""How ``filoray`` itself goes in where a gateway asks who it is: a user, a token, and what it trusts as TLS.

Taken from options and, where those are silent, from the environment (FILORAY_URL, FILORAY_USER, FILORAY_PASSWORD_FILE,
FILORAY_PASSWORD, FILORAY_TOKEN_FILE, FILORAY_TOKEN, FILORAY_CA_FILE, FILORAY_SERVER_CERTIFICATE,
FILORAY_CLIENT_CERTIFICATE, FILORAY_CLIENT_KEY). Secrets are no options: every user of a machine sees those of all
processes. Asking is ``http_client``'s.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filoray.cluster.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class ClientAccess:
    """``url``: a gateway's. ``server_certificate``: the one certificate that is trusted, whatever name it has.

    ``client_certificate`` and ``client_key``: what is shown where a gateway demands one.
    """

    url: str = DEFAULT_URL
    user: str | None = None
    password: str | None = None
    token: str | None = None
    ca_file: Path | None = None
    server_certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    @property
    def authorization(self) -> str | None:
        """The header of that name."""
        if self.token is not None:
            return f"Bearer {self.token}"
        if self.user is not None:
            return "Basic " + base64.b64encode(f"{self.user}:{self.password or ''}".encode()).decode()
        return None


def client_access(given: Mapping[str, str | None], environment: Mapping[str, str]) -> ClientAccess:
    """``given``: the options' values by their names. Raises ConfigError for files that cannot be read, and halves."""

    def choice(name: str) -> str | None:
        return given.get(name) or environment.get(f"FILORAY_{name.upper().replace('-', '_')}") or None

    token, user = _secret(given, environment, "token"), choice("user")
    password = _secret(given, environment, "password")
    if given.get("user") is not None and given.get("token-file") is None:
        token = None  # what was typed goes before what lies in the environment
    if token is not None:
        user = password = None
    if (user is None) != (password is None):
        missing = "a password: --password-file or FILORAY_PASSWORD" if password is None else "a user: --user"
        raise ConfigError(f"a user and a password go together; give {missing}")
    if (choice("client-certificate") is None) != (choice("client-key") is None):
        raise ConfigError("--client-certificate and --client-key go together")

    def file(name: str) -> Path | None:
        path = choice(name)
        return None if path is None else Path(path)

    return ClientAccess(
        url=choice("url") or DEFAULT_URL,
        user=user,
        password=password,
        token=token,
        ca_file=file("ca-file"),
        server_certificate=file("server-certificate"),
        client_certificate=file("client-certificate"),
        client_key=file("client-key"),
    )


def _secret(given: Mapping[str, str | None], environment: Mapping[str, str], name: str) -> str | None:
    file = given.get(f"{name}-file")
    text = None if file else environment.get(f"FILORAY_{name.upper()}")
    if text is None:
        file = file or environment.get(f"FILORAY_{name.upper()}_FILE")
        if file is None:
            return None
        try:
            text = Path(file).read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: cannot be read as a {name}: {error}") from None
    if not text or not text.isprintable():
        raise ConfigError(f"the {name} in {file or f'FILORAY_{name.upper()}'} is empty or no single line of text")
    return text
