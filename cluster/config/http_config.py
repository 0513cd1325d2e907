"""The gateways' settings: the ``http`` block of the server's configuration, declared.

``conf/filoray-defaults.conf`` has the defaults and the reasons. What a web configuration file says is read and followed
by the gateways themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from filoray.cluster.addresses import HIGHEST_PORT
from filoray.cluster.config.setting import Duration, ExistingFile, Flag, Integer, Size, Text, Texts

_HOST_NAME = re.compile(r"\.?[\w-]+(?:\.[\w-]+)*\.?|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")


def _host_problem(name: str) -> str | None:
    if name == "*" or _HOST_NAME.fullmatch(name):
        return None
    return f'{name!r} is not a host; "db.example.org", ".example.org" (and all below), an address or "*" is'


def _regular_expression_problem(text: str) -> str | None:
    import re2  # here, as only who reads a configuration needs it: Ray's workers import this file for its classes

    try:
        re2.compile(text)
    except re2.error as error:
        return f"{text!r} is not a regular expression: {error}"
    return None


@dataclass(frozen=True, slots=True)
class HttpConfig:
    host: Annotated[str, Text("host")]
    port: Annotated[int, Integer("port", minimum=1, maximum=HIGHEST_PORT)]
    keepalive_timeout_ms: Annotated[int, Duration("keepalive-timeout", minimum=100)]
    body_timeout_ms: Annotated[int, Duration("body-timeout", minimum=100)]
    send_timeout_ms: Annotated[int, Duration("send-timeout", minimum=100)]
    max_pending_bytes: Annotated[int, Size("max-pending-size", minimum=1)]
    max_unsent_bytes: Annotated[int, Size("max-unsent-size", minimum=1)]
    slow_client_patience_ms: Annotated[int, Duration("slow-client-patience", minimum=1)]
    max_client_percent: Annotated[int, Integer("max-client-percent", minimum=1, maximum=100)]
    max_url_bytes: Annotated[int, Size("max-url-size", minimum=1024)]
    max_header_bytes: Annotated[int, Size("max-header-size", minimum=1024)]
    shutdown_timeout_ms: Annotated[int, Duration("shutdown-timeout")]
    min_compressed_bytes: Annotated[int, Size("min-compressed-size")]
    allowed_hosts: Annotated[tuple[str, ...], Texts("allowed-hosts", _host_problem)]
    cors_origin: Annotated[str, Text("cors-origin", _regular_expression_problem, is_optional=True, absent="")]
    web_config_file: Annotated[Path | None, ExistingFile("web-config-file")]
    web_config_check_interval_ms: Annotated[int, Duration("web-config-check-interval", minimum=10)]
    allow_open: Annotated[bool, Flag("allow-open")]
    allow_chaos: Annotated[bool, Flag("allow-chaos")]
    view_trust_gap_ms: Annotated[int, Duration("view-trust-gap", minimum=100)]
    launcher_token_sha256: str | None = None
    """Of the token by which the launcher, and what it starts, prove themselves; no key, made at each launch."""
