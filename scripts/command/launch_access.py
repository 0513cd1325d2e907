"""What the launcher settles about who may come in, before anything is started, and how it goes in itself."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
from pathlib import Path

from filoray.cluster.addresses import is_loopback
from filoray.cluster.config.http_config import HttpConfig
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess
from filoray.http.access.tls import server_context
from filoray.http.access.web_config import WebConfig
from filoray.http.access.web_config_file import read_web_config, readable_by_others

TOKEN_FILE = "launch.token"
"""In the data directory, for its owner alone: the token by which the launcher and what it starts prove themselves."""


def settle_access(config: ServerConfig) -> ServerConfig:
    """Checks the web configuration, and that no stranger may do everything; gives it with the launcher's token.

    Raises ConfigError for what is wrong in the file, FilorayError where ``http.host`` is open to others.
    """
    access = _web_config(config.http)
    if access.tls is not None:
        server_context(access.tls)
    check_exposure(config.http, access)
    if not access.asks_who:
        return config
    digest = hashlib.sha256(_launch_token(config.data_dir).encode()).hexdigest()
    return dataclasses.replace(config, http=dataclasses.replace(config.http, launcher_token_sha256=digest))


def check_exposure(http: HttpConfig, access: WebConfig) -> None:
    """Raises FilorayError where others than this machine may connect and nobody is asked who they are."""
    if is_loopback(http.host) or access.keeps_strangers_out or http.allow_open:
        return
    raise FilorayError(
        f"filoray.http.host is {http.host}, which other machines reach, and nobody is asked who they are: set "
        "filoray.http.web-config-file to a file with users or tokens (README.md), or filoray.http.allow-open = true "
        "where a proxy or a firewall keeps strangers out"
    )


def exposure_warning(http: HttpConfig, access: WebConfig) -> str | None:
    if is_loopback(http.host) or access.tls is not None:
        return None
    if access.asks_who:
        return (
            f"{http.host} is reached by other machines in plain HTTP: passwords and tokens can be read on the way, "
            "unless a proxy adds TLS; tls_server_config in filoray.http.web-config-file serves it here"
        )
    return f"filoray.http.allow-open: whoever reaches {http.host} may read, write and delete everything"


def launcher_access(config: ServerConfig, url: str) -> ClientAccess:
    """How the launcher asks its own gateways. Of TLS it trusts the very certificate that they are told to serve."""
    access = _web_config(config.http)
    return ClientAccess(
        url=url,
        token=(config.data_dir / TOKEN_FILE).read_text() if access.asks_who else None,
        server_certificate=access.tls.cert_file if access.tls is not None else None,
    )


def access_environment(config: ServerConfig) -> dict[str, str]:
    """The same for a ``filoray`` command that the launcher starts."""
    access = _web_config(config.http)
    environment = {}
    if access.asks_who:
        environment["FILORAY_TOKEN_FILE"] = str(config.data_dir / TOKEN_FILE)
    if access.tls is not None:
        environment["FILORAY_SERVER_CERTIFICATE"] = str(access.tls.cert_file)
    return environment


def access_hint(config: ServerConfig) -> str:
    """How one who reads the data directory may go in; "" where nobody is asked."""
    if config.http.launcher_token_sha256 is None:
        return ""
    file = config.data_dir / TOKEN_FILE
    return f"   (as a user of yours, or with curl --oauth2-bearer $(cat {file}), filoray … --token-file {file})"


def scheme(http: HttpConfig) -> str:
    return "http" if _web_config(http).tls is None else "https"


def check_demo(http: HttpConfig) -> None:
    """Raises FilorayError where even the launcher is kept out."""
    tls = _web_config(http).tls
    if tls is not None and tls.client_auth == "RequireAndVerifyClientCert":
        raise FilorayError(
            "--demo writes over HTTP, and the launcher has no certificate for client_auth_type "
            f"RequireAndVerifyClientCert ({http.web_config_file}); launch without it"
        )


def launch_remarks(http: HttpConfig) -> list[str]:
    """What the operator should know though it is allowed."""
    access = _web_config(http)
    remarks = [warning] if (warning := exposure_warning(http, access)) else []
    if http.web_config_file is not None:
        files = [http.web_config_file, *([access.tls.key_file] if access.tls is not None else [])]
        open_ones = filter(readable_by_others, files)
        remarks += [f"others may read {path}, which has secrets: chmod 600 {path}" for path in open_ones]
    return remarks


def _web_config(http: HttpConfig) -> WebConfig:
    return WebConfig() if http.web_config_file is None else read_web_config(http.web_config_file)


def _launch_token(data_dir: Path) -> str:
    """A new one for each launch."""
    token = secrets.token_urlsafe(32)
    path = data_dir / TOKEN_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
    except OSError as error:
        raise FilorayError(f"cannot keep {path}: {error}") from None
    return token
