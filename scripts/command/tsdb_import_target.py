"""Sends series to a running cluster by remote write, for ``filoray tsdb import --url``."""

from __future__ import annotations

import urllib.parse

from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import NoAnswer, send_until_taken
from filoray.command.tsdb.series_blocks import pieces_of
from filoray.http.remote.remote_write_client import WRITE_HEADERS, encode_write_request
from filoray.http.remote.write_answer import OUTCOME_HEADER, read_outcome_header
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import WriteOutcome

_REQUEST_SAMPLES = 20_000
_ATTEMPTS = 8
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
        try:
            answer = send_until_taken(
                self._access, self._path, body, WRITE_HEADERS, timeout_s=_TIMEOUT_S, attempts=_ATTEMPTS
            )
        except NoAnswer as error:
            raise FilorayError(f"no gateway answers at {self._address}: {error.reason}") from None
        refused = read_outcome_header(answer.headers.get(OUTCOME_HEADER, ""))
        if refused is not None:  # and the rest is stored
            self.outcome.add(refused)
        elif answer.is_good:
            self.outcome.accepted += samples
        else:
            raise FilorayError(f"{self._address} answered {answer.status}: {answer.error_text}")
