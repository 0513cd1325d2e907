"""How ``filoray`` itself goes in where a gateway asks who it is: a user, a token, and what it trusts as TLS.

Taken from options and, where those are silent, from the environment (FILORAY_URL, FILORAY_USER, FILORAY_PASSWORD_FILE,
FILORAY_PASSWORD, FILORAY_TOKEN_FILE, FILORAY_TOKEN, FILORAY_CA_FILE, FILORAY_SERVER_CERTIFICATE,
FILORAY_CLIENT_CERTIFICATE, FILORAY_CLIENT_KEY). Secrets are no options: every user of a machine sees those of all
processes.
"""

from __future__ import annotations

import base64
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import orjson

from filoray.cluster.addresses import is_loopback
from filoray.cluster.errors import ConfigError, FilorayError
from filoray.http.access.tls import client_context

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

    def open(self, path: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float) -> HTTPResponse:
        """The answer to a GET, or a POST where there is a body. Raises urllib's HTTPError for statuses from 400 on,

        OSError where nobody answers, FilorayError where TLS does not trust the other side.
        """
        request = urllib.request.Request(self.url.rstrip("/") + path, body, dict(headers))
        authorization = self._authorization()
        if authorization is not None:
            request.add_unredirected_header("Authorization", authorization)  # to nobody else
        handlers: list[urllib.request.BaseHandler] = []
        host = urlsplit(self.url).hostname
        if host is not None and is_loopback(host):
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy's loopback is another
        if self.url.startswith("https:"):
            context = client_context(self.ca_file, self.server_certificate, self.client_certificate, self.client_key)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            return cast(HTTPResponse, urllib.request.build_opener(*handlers).open(request, timeout=timeout_s))
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise FilorayError(
                    f"{self.url} has a certificate that is not trusted ({error.reason.verify_message}); give the "
                    "certificate of its authority with --ca-file"
                ) from None
            raise

    def _authorization(self) -> str | None:
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


def error_text(body: bytes) -> str:
    """What a gateway's answer says is wrong."""
    try:
        return str(orjson.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]
