"""The exceptions of loadgen: each says what was received, which rule it broke, and what to do."""

from typing import Any


class LoadgenError(Exception):
    """Base of every error that loadgen raises on purpose.

    Args:
        message: One sentence: the value received and the rule it broke.
        way_out: What to do about it, as one sentence; empty where the message says it all.
    """

    def __init__(self, message: str, way_out: str = "") -> None:
        super().__init__(message, way_out) if way_out else super().__init__(message)
        self.message = message
        self.way_out = way_out

    def __str__(self) -> str:
        return f"{self.message}\n{self.way_out}" if self.way_out else self.message


def words_of(error: BaseException) -> str:
    """Return an error in words: its type, and its message where it has one.

    Args:
        error: Anybody's.
    """
    return f"{type(error).__name__}: {error}".removesuffix(": ")


class ConfigError(LoadgenError, ValueError):
    """An option, a keyword or a configuration file that can't be used. Nothing was sent."""


class DatasetError(LoadgenError, ValueError):
    """A dataset that can't be read, or doesn't hold what was asked for. Nothing was sent."""


class TargetError(LoadgenError, OSError):
    """The target could not be asked what it serves. Nothing was sent."""


class RunError(LoadgenError, RuntimeError):
    """A run that began and could not be carried on."""


class EventError(LoadgenError, RuntimeError):
    """A stream of events that can't be opened, or is used where or when it can't be. The run isn't touched by it."""


class MetricsError(LoadgenError, RuntimeError):
    """Live metrics that can't be looked into, published or stored. The run isn't touched by it."""


class ReportError(LoadgenError, OSError):
    """A run whose directory, log or report can't be found or read."""


class DispatchError(LoadgenError, RuntimeError):
    """A batch that can't be dispatched here, or one that began and could not be carried on; what finished is kept."""

    batch: Any = None
    """The ``Batch`` as far as it came, where one had begun: calls that weren't settled have this error."""


class JournalError(DispatchError):
    """A journal that can't be written any more, or a value that it can't hold.

    Args:
        message: As for every error.
        way_out: As for every error.
        unwritten: The lines that are not on the disk, each a finished or failed call; of a batch that has ended, all
            of them.
    """

    def __init__(self, message: str, way_out: str = "", unwritten: tuple[bytes, ...] = ()) -> None:
        super().__init__(message, way_out)
        self.unwritten = unwritten


class NodeError(DispatchError):
    """Nodes none of which can do what is asked, or a batch over nodes that isn't whole; what finished is kept."""


class RequestError(DispatchError):
    """A request of a native batch that has no answer.

    Args:
        message: What the server said, or what went wrong.
        failure: The class: ``http``, ``connect``, ``tls``, ``stall``, ``protocol``, ``body`` or ``cancelled``.
        status: The HTTP status; 0 where no answer came.
    """

    def __init__(self, message: str, *, failure: str, status: int = 0) -> None:
        super().__init__(message)
        self.failure = failure
        self.status = status


class CallTimeoutError(DispatchError, TimeoutError):
    """A dispatched call that had no answer in the time it was given."""


class PushBack(LoadgenError):  # noqa: N818  # a callable's word to its dispatcher: slow down
    """Raised by a dispatched callable: the service is asking for fewer calls. The call is made again later.

    Args:
        message: What the service said.
        retry_after: After how many seconds it may be asked again; ``None`` where it didn't say.
    """

    def __init__(self, message: str = "the service pushed back", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
