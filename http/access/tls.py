"""TLS contexts: the server's, which may be replaced while it listens, and a client's that trusts one certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filoray.cluster.errors import ConfigError
from filoray.http.access.web_config import TlsSettings

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Reads the files. Raises ConfigError that names the one that is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    context.verify_mode = _CLIENT_AUTH[settings.client_auth]
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # it costs the server more than the client
    if settings.ciphers:
        context.set_ciphers(":".join(settings.ciphers))
    if settings.prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for file in settings.files():
        try:
            file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        # A password on the key would be asked for at a terminal that is not there.
        context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{settings.cert_file}, {settings.key_file}: no certificate and its key: {error}") from None
    if settings.client_ca_file is not None:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"{settings.client_ca_file}: no certificates: {error}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key has a password; give one without")


class CurrentContext(ssl.SSLContext):
    """What a server listens with: each connection gets the context that ``current`` gives at its beginning."""

    current: Callable[[], ssl.SSLContext]

    @classmethod
    def of(cls, current: Callable[[], ssl.SSLContext]) -> CurrentContext:
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made.current = current
        return made

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self.current().wrap_bio(*arguments, **options)


def has_name(certificate: Mapping[str, Any] | None, names: tuple[str, ...]) -> bool:
    """Whether a client's certificate (as ``getpeercert`` gives it) has one of the names among its subject's others."""
    others = (certificate or {}).get("subjectAltName", ())
    return any(value in names for _, value in others)


def client_context(
    ca_file: Path | None, server_certificate: Path | None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """``ca_file``: trusted beside nobody else; None: the system's. ``server_certificate``: only this one is trusted,

    whatever name it has. ``certificate`` and ``key``: our own. Raises ConfigError.
    """
    file = server_certificate or ca_file
    try:
        context = ssl.create_default_context(cafile=None if file is None else str(file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{file}: cannot be read as certificates: {error}") from None
    if server_certificate is not None:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{certificate}, {key}: no certificate and its key: {error}") from None
    return context
