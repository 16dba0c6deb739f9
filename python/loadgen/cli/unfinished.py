"""A batch that broke off, or isn't whole: what of it is written, and how it is gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loadgen.cli import show
from loadgen.errors import DispatchError


@contextmanager
def also_written(write: Callable[[], None]) -> Iterator[None]:
    """Have what was answered written where a signal or an error ends a batch; entered around it.

    Args:
        write: Writes it, if there is any.

    Raises:
        KeyboardInterrupt: As the batch.
        DispatchError: As the batch; or, after a signal, if the disk refuses.
    """
    try:
        yield
    except KeyboardInterrupt:
        write()
        raise
    except DispatchError:
        try:
            write()
        except DispatchError as unwritten:
            # A disk that has no room for the journal has none for the answers: what the journal holds is said last.
            show.error(unwritten.message)
        raise


def again(journal: str | None, *, has_some: bool) -> str:
    """Return how calls that have no answer are made again; empty without a journal.

    Args:
        journal: The batch's.
        has_some: Whether other calls of it have one.
    """
    if journal is None:
        return ""
    if has_some:
        return f"run it again, and only these are called: the others are in {journal}"
    return f"run it again, and all are called: {journal} has no answer yet"


def way_on(journal: str | None, out: str | None) -> str:
    """Return how a batch that was stopped can be gone on with.

    Args:
        journal: Its journal's file; ``None`` where it has none.
        out: The file that holds what was answered; ``None`` where none does.
    """
    if journal is not None:
        return f"what finished is in {journal}: run it again, and only the rest is called"
    way_on = "with --journal FILE a batch can be gone on with"
    return way_on if out is None else f"their answers are in {out}; {way_on}"
