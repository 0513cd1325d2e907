"""Sends series to a running cluster by remote write, for ``filoray tsdb import --url``."""

from __future__ import annotations

import time
import urllib.error
import urllib.parse

from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess, error_text
from filoray.command.tsdb.series_blocks import pieces_of
from filoray.http.remote.remote_write_client import WRITE_HEADERS, encode_write_request
from filoray.http.remote.write_answer import OUTCOME_HEADER, read_outcome_header
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import WriteOutcome

_REQUEST_SAMPLES = 20_000
_ATTEMPTS = 8
_RETRY_DELAY_S_MAX = 10.0
_TIMEOUT_S = 120


class RemoteWriteTarget:
    """``access``: a gateway; ``dataset`` None: its own choice."""

    def __init__(self, access: ClientAccess, dataset: str | None) -> None:
        self._access = access
        self._path = f"/promql/{urllib.parse.quote(dataset, safe='')}/api/v1/write" if dataset else "/api/v1/write"
        self._address = access.url.rstrip("/") + self._path
        self.outcome = WriteOutcome()

    def write(self, batch: SeriesBatch) -> None:
        """Returns when all that is not refused is durable. Raises FilorayError if the cluster does not take it."""
        for piece in pieces_of(batch, _REQUEST_SAMPLES):
            offsets = piece.offsets.tolist()
            body = encode_write_request(
                (labels, piece.timestamps[start:end], piece.values[start:end])
                for labels, start, end in zip(piece.labels.label_sets(), offsets[:-1], offsets[1:], strict=True)
            )
            self._send(body, len(piece.timestamps))

    def _send(self, body: bytes, samples: int) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._access.open(self._path, body, WRITE_HEADERS, _TIMEOUT_S):
                    self.outcome.accepted += samples
                    return
            except urllib.error.HTTPError as error:
                text = error_text(error.read())
                outcome = read_outcome_header(error.headers.get(OUTCOME_HEADER, ""))
                if outcome is not None:  # some were refused and the rest stored
                    self.outcome.add(outcome)
                    return
                if error.code not in (429, 503) or attempt == _ATTEMPTS:
                    raise FilorayError(f"{self._address} answered {error.code}: {text}") from None
                given_s = error.headers.get("Retry-After", "")
                delay_s = float(given_s) if given_s.isdecimal() else 0.2 * 2**attempt
            except OSError as error:
                if attempt == _ATTEMPTS:
                    reason = getattr(error, "reason", error)
                    raise FilorayError(f"no gateway answers at {self._address}: {reason}") from None
                delay_s = 0.2 * 2**attempt
            time.sleep(min(delay_s, _RETRY_DELAY_S_MAX))
