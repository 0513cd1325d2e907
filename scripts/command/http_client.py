"""Asking a gateway over HTTP: the one way for all commands, whether they read, write, import or only knock.

Who asks and what is trusted is ``ClientAccess``'s. An answer of any status is an ``Answer``; nobody at the other side,
or one that ends in the middle of its answer, is ``NoAnswer``. What an answer means is left to whoever asked.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from filoray.cluster.addresses import is_loopback
from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess
from filoray.http.access.tls import client_context

_JSON_TIMEOUT_S = 130
_AGAIN_STATUSES = (429, 503)
_RETRY_DELAY_S_MIN = 0.4
_RETRY_DELAY_S_MAX = 10.0
_BODY_CHARACTERS_SHOWN = 500


class NoAnswer(FilorayError):
    """``reason``: an exception, or what it says."""

    def __init__(self, url: str, reason: object) -> None:
        super().__init__(f"no gateway answers at {url}: {reason}")
        self.reason = reason


class NotTrusted(FilorayError):
    """Somebody answers who cannot prove to be the gateway."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"{url} has a certificate that is not trusted ({reason}); give the "
            "certificate of its authority with --ca-file"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def is_good(self) -> bool:
        return self.status < 400

    @property
    def error(self) -> str | None:
        """What a gateway's JSON says is wrong; None for what is no such JSON."""
        try:
            return str(orjson.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def error_text(self) -> str:
        """What is wrong in the answer's own words, whoever wrote it."""
        found = self.error
        return self.body.decode(errors="replace")[:_BODY_CHARACTERS_SHOWN] if found is None else found


def send(
    access: ClientAccess,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float,
    method: str | None = None,
) -> Answer:
    """The answer to a GET, or a POST where there is a body, or ``method``. Raises NoAnswer and NotTrusted."""
    request = urllib.request.Request(access.url.rstrip("/") + path, body, dict(headers or {}), method=method)
    if access.authorization is not None:
        request.add_unredirected_header("Authorization", access.authorization)  # to nobody else
    opener = _opener(access)
    try:
        try:
            response = opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            response = error  # an answer like others
        with response:
            return Answer(response.status, response.reason, response.headers, response.read())
    except (OSError, http.client.HTTPException) as error:
        # Of others than URLError it is OpenSSL's name for what went wrong.
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise NotTrusted(access.url, reason.verify_message) from None
        raise NoAnswer(access.url, reason) from None


def send_until_taken(
    access: ClientAccess, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float, attempts: int
) -> Answer:
    """As ``send``, and again while nobody answers or the answer is to come again later; the last attempt's counts."""
    for attempt in range(attempts - 1):
        delay_s = _RETRY_DELAY_S_MIN * 2**attempt
        try:
            answer = send(access, path, body, headers, timeout_s=timeout_s)
        except NoAnswer:
            pass
        else:
            if answer.status not in _AGAIN_STATUSES:
                return answer
            given_s = answer.headers.get("Retry-After", "")
            delay_s = float(given_s) if given_s.isdecimal() else delay_s
        time.sleep(min(delay_s, _RETRY_DELAY_S_MAX))
    return send(access, path, body, headers, timeout_s=timeout_s)


def get_json(access: ClientAccess, path: str, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON of a gateway's answer. Raises FilorayError with the gateway's own words, or that nobody answers."""
    target = path + ("?" + urllib.parse.urlencode(parameters) if parameters else "")
    answer = send(access, target, timeout_s=_JSON_TIMEOUT_S)
    if not answer.is_good:
        raise FilorayError(answer.error or f"{access.url}{target} answered {answer.status} {answer.reason}")
    decoded: dict[str, Any] = orjson.loads(answer.body)
    return decoded


def post(access: ClientAccess, path: str, body: bytes = b"") -> None:
    """Order something. Raises FilorayError with the gateway's own words, or that nobody answers."""
    answer = send(access, path, body, timeout_s=_JSON_TIMEOUT_S)
    if not answer.is_good:
        raise FilorayError(answer.error or f"{access.url}{path} answered {answer.status} {answer.reason}")


def is_answered(access: ClientAccess, path: str, timeout_s: float) -> bool:
    """Whether anybody is there, whoever it is, and whatever it trusts."""
    try:
        send(access, path, timeout_s=timeout_s)
    except NotTrusted:
        return True
    except NoAnswer as error:
        return isinstance(error.reason, ssl.SSLError)
    return True


def _opener(access: ClientAccess) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = []
    host = urlsplit(access.url).hostname
    if host is not None and is_loopback(host):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy's loopback is another
    if access.url.startswith("https:"):
        context = client_context(
            access.ca_file, access.server_certificate, access.client_certificate, access.client_key
        )
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)
