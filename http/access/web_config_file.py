"""Keeps what the web configuration's file says: read at the start, and again whenever it or a certificate changes.

A changed file that is wrong changes nothing: what was right before goes on, the log and ``/metrics`` say why. Whether
there is TLS at all is settled at the start, for it is what the port speaks.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filoray.cluster.errors import ConfigError
from filoray.http.access.authentication import Authenticator
from filoray.http.access.tls import CurrentContext, server_context
from filoray.http.access.web_config import MAX_BYTES, Token, WebConfig, parse_web_config

_log = logging.getLogger("filoray.http")
_Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class LoadedAccess:
    """What one state of the file amounts to."""

    config: WebConfig
    authenticator: Authenticator
    tls: ssl.SSLContext | None


class WebConfigFile:
    """``path`` None: nobody is asked anything. Raises ConfigError if what is there is wrong."""

    def __init__(self, path: Path | None, extra_tokens: Sequence[Token] = ()) -> None:
        self._path = path
        self._extra_tokens = extra_tokens
        self._files = [] if path is None else [path]
        self.last_reload_right = True
        self.last_reload_s = time.time()
        self._signature: _Signature = ()
        self.loaded = self._load()

    @property
    def is_tls(self) -> bool:
        return self.loaded.tls is not None

    def listening_context(self) -> ssl.SSLContext | None:
        """What a port is opened with; its connections follow the file. None: they are plain."""
        return CurrentContext.of(self._current_tls) if self.is_tls else None

    async def watch(self, interval_ms: int) -> None:
        """Look for changes for ever."""
        while self._path is not None:
            await asyncio.sleep(interval_ms / 1000)
            await asyncio.to_thread(self.reload_if_changed)

    def reload_if_changed(self) -> None:
        if self._look() == self._signature:
            return
        try:
            after = self._load()
            if (after.tls is None) != (self.loaded.tls is None):
                raise ConfigError(
                    f"{self._path}: tls_server_config: TLS begins or ends with a new launch only; "
                    "what was read before holds"
                )
        except ConfigError as error:
            self.last_reload_right = False
            _log.error("the changed web configuration is wrong, the one before holds error=%s", error.message)
            return
        self.loaded = after
        self.last_reload_right, self.last_reload_s = True, time.time()
        _log.info("web configuration read anew path=%s", self._path)

    def _current_tls(self) -> ssl.SSLContext:
        assert self.loaded.tls is not None
        return self.loaded.tls

    def _load(self) -> LoadedAccess:
        config = WebConfig()
        if self._path is not None:
            # Looked at before they are read: what changes meanwhile is read again.
            self._files = [self._path]
            self._signature = self._look()
            config = read_web_config(self._path)
            self._files += config.tls.files() if config.tls is not None else []
            self._signature = (*self._signature, *self._look()[1:])
            for path in (self._path, *([config.tls.key_file] if config.tls is not None else [])):
                if readable_by_others(path):
                    _log.warning("others may read a file with secrets path=%s", path)
        tls = None if config.tls is None else server_context(config.tls)
        return LoadedAccess(config, Authenticator(config, self._extra_tokens), tls)

    def _look(self) -> _Signature:
        return tuple(_signature(file) for file in self._files)


def read_web_config(path: Path) -> WebConfig:
    """Raises ConfigError naming the file, and the key in it that is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: a web configuration has no more than {MAX_BYTES} bytes")
        return parse_web_config(content.decode(), str(path), path.parent)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read (filoray.http.web-config-file): {error}") from None


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False
