"""Every error that may reach a user, with its HTTP status and Prometheus ``errorType``.

Raised anywhere in the project, turned into a response in one place (``filoray.http.server.error_responses``).
A message says what was wrong, with what value, and what would be right.
``errorType`` values are those of https://prometheus.io/docs/prometheus/latest/querying/api/ and, for
the cluster API, FiloDB's (``DatasetExists``, ``DatasetUnknown``).
"""

from __future__ import annotations


class FilorayError(Exception):
    """Base of all expected errors. ``str(error)`` is the text that the user reads."""

    http_status = 500
    error_type = "internal"
    retry_after_s: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders: subclasses that build their message from a name must not build it twice."""
        return _rebuild, (type(self), self.message, {**self.__dict__})


class BadData(FilorayError):
    """The request itself is wrong: a retry of the same bytes cannot help (400)."""

    http_status = 400
    error_type = "bad_data"


class ConfigError(BadData):
    """A configuration has an unknown type, size, duration or a missing key; names key and place."""


class PayloadTooLarge(BadData):
    """A body is over its limit (413)."""

    http_status = 413


class Unauthorized(FilorayError):
    """Nobody said who asks, or said it wrongly (401). ``challenge``: for the header WWW-Authenticate."""

    http_status = 401
    error_type = "unauthorized"

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(FilorayError):
    """Whoever asks may not do this (403)."""

    http_status = 403
    error_type = "forbidden"


class NotFound(FilorayError):
    """There is no such thing (404)."""

    http_status = 404
    error_type = "not_found"


class DatasetUnknown(NotFound):
    error_type = "DatasetUnknown"

    def __init__(self, dataset: str) -> None:
        super().__init__(f"Dataset {dataset} is not registered")


class DatasetExists(FilorayError):
    http_status = 409
    error_type = "DatasetExists"

    def __init__(self, dataset: str) -> None:
        super().__init__(f"The dataset {dataset} has already been setup for ingestion")


class ExecutionError(FilorayError):
    """A query that parsed failed while it ran (422)."""

    http_status = 422
    error_type = "execution"


class LimitExceeded(ExecutionError):
    """A guard rail stopped a query; the message names limit, value and the key that raises it."""


class QueryTimeout(FilorayError):
    """A query took longer than it may (503). It is not sent again by itself: it would take as long again."""

    http_status = 503
    error_type = "timeout"


class QueryCanceled(FilorayError):
    http_status = 503
    error_type = "canceled"


class Unavailable(FilorayError):
    """Something needed is not there now; a retry may help (503)."""

    http_status = 503
    error_type = "unavailable"
    retry_after_s = 1


class NotLeading(Unavailable):
    """This coordinator stands by: another one leads, or will in a moment."""


class AnswerOverdue(Unavailable):
    """Somebody is there, or seems to be, and gave no answer in time (503)."""


class TooManyRequests(Unavailable):
    """A queue is full. 503, not 429: on that Prometheus's remote write drops what it was about to send."""


class StaleRoute(Unavailable):
    """A node refused a request that named another epoch or incarnation than it holds.

    Never shown to a user: the gateway refreshes its map and tries again inside the deadline.
    """


class StoreIsAhead(StaleRoute):
    """A shard's store was opened with a higher epoch, ``stored_epoch``, than this owner's."""

    def __init__(self, message: str, stored_epoch: int) -> None:
        super().__init__(message)
        self.stored_epoch = stored_epoch


class ConnectionLost(StaleRoute):
    """The connection to a node broke while it was asked; what was asked may have happened or not.

    The node may be as well as ever: the gateway asks again by the same map, soon.
    """


class ShardOpening(StaleRoute):
    """The node asked holds the shard at the epoch named, and is still opening it: worth asking again soon."""


class CopiesJoining(StaleRoute):
    """The node asked leads the shard, and too few copies are in sync: worth asking again soon.

    Who writes is told so only for as long as a follower may be back in a moment, a stream's consumer for however long.
    """


class ShardNotHere(StaleRoute):
    """The node asked does not hold the shard."""


class EpochDiffers(StaleRoute):
    """The node asked holds the shard at another epoch than the one named."""


class LeaseLapsed(StaleRoute):
    """The node asked has not heard of the coordinator in time: worth asking again soon."""


def reason_of(error: Exception) -> str:
    """What a status or a log says of it: an expected error's message says all, of any other its kind counts too."""
    return error.message if isinstance(error, FilorayError) else f"{type(error).__name__}: {error}"


def _rebuild(kind: type[FilorayError], message: str, state: dict[str, object]) -> FilorayError:
    error = kind.__new__(kind, message)
    FilorayError.__init__(error, message)
    error.__dict__.update(state)
    return error
