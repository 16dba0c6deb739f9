"""A batch's journal: what finished is in a file, and isn't called again when the batch is run again with it."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import msgspec

from loadgen.dispatch import journal_file
from loadgen.dispatch.journal_file import FORMAT, Head, Line, Reader, Writer
from loadgen.errors import ConfigError, JournalError

Json: TypeAlias = Any
"""What JSON holds: None, a bool, a number, text, and lists and mappings of these."""


class Codec(NamedTuple):
    """How values get into a journal and out of it again.

    Args:
        encode: From a value to what JSON holds.
        decode: Back.
    """

    encode: Callable[[Any], Json]
    decode: Callable[[Json], Any]


class Entry(NamedTuple):
    """A call that finished in an earlier run of the batch.

    Args:
        value: What it returned.
        stats: What was noted of it; None for nothing.
    """

    value: Any
    stats: dict[str, Any] | None


class Journal:
    """A resume file: run a batch with it, and run it again with it after whatever stopped it.

    Calls are told apart by their items. What identical items gave is interchangeable: as many of them as finished
    before count as finished. Failed calls are made again.

    Args:
        path: The file, one line of JSON a call; made private (0600) where there is none.
        key: From an item to what names it for good, text or a whole number; None takes a digest of its JSON. It and the
            codec are called on a thread of their own while the file is read.
        codec: For values that JSON doesn't give back as they were: a :class:`Codec`, or a type that msgspec can build
            from JSON (a dataclass, say).
        config: What else decides the values (a prompt's version, a temperature): a journal with another is refused.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: Callable[[Any], str | int] | None = None,
        codec: Codec | type | None = None,
        config: Mapping[str, Json] | None = None,
    ) -> None:
        self.path = Path(path)
        self._key = key
        self._codec = _codec(codec)
        self._config = dict(config or {})

    def open(self, config: Mapping[str, Json] | None = None, codec: Codec | type | None = None) -> OpenJournal:
        """Lock the file, read what finished, and get ready to append.

        Args:
            config: What decides the values, such as the model; never a secret. The journal's own wins over it.
            codec: For the values, where the journal has none of its own.

        Raises:
            ConfigError: If the file can't be used, another batch writes it, or it is of another configuration.
        """
        wanted = _plain_config({**(config or {}), **self._config})
        used = self._codec if self._codec is not None else _codec(codec)
        handle = journal_file.open_locked(self.path)
        try:
            return OpenJournal(handle, self.path, wanted, self._key, used)
        except BaseException:
            os.close(handle)
            raise


def as_journal(given: Journal | str | os.PathLike[str] | None) -> Journal | None:
    """Return the journal that a user means: one of their own, a file's name, or none."""
    return given if given is None or isinstance(given, Journal) else Journal(given)


class OpenJournal:
    """A journal while a batch runs; use it as a context manager. Made by :meth:`Journal.open`.

    Any thread may append. Nothing waits for the disk but :meth:`close`.
    """

    def __init__(
        self,
        handle: int,
        path: Path,
        config: dict[str, Json],
        key: Callable[[Any], str | int] | None,
        codec: Codec | None,
    ) -> None:
        self.path = path
        self._handle = handle
        self._key = key
        self._codec = codec
        reader = Reader(handle, path)
        if reader.head is not None:
            _check_config(reader.head, config, path)
        self._found = _finished(reader)
        self.restorable = sum(1 if isinstance(places, int) else len(places) for places in self._found.values())
        """How many finished calls the file holds that no item was given yet."""
        self.damaged = reader.damaged
        """Lines that can't be read: their calls are made again. A warning says so."""
        if reader.damaged:
            lines = "1 line" if reader.damaged == 1 else f"{reader.damaged:,} lines"
            warnings.warn(
                f"{lines} of the journal {path} can't be read; what they told of is called again",
                RuntimeWarning,
                stacklevel=3,
            )
        self._writer = Writer(handle, path, _ready(handle, reader, config, path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except JournalError:
            if kind is None:
                raise  # else what is on its way says why the batch ended, and `close` was only the cleaning up

    @property
    def on_failure(self) -> Callable[[], None] | None:
        """What is called once, from the writer's thread, when the disk refuses."""
        return self._writer.on_failure

    @on_failure.setter
    def on_failure(self, call: Callable[[], None] | None) -> None:
        self._writer.on_failure = call

    def restore(self, items: Iterable[Any]) -> dict[int, Entry]:
        """Return what finished in earlier runs, by the items' indices. Each finished call is given out once.

        Args:
            items: The batch's, in order.

        Raises:
            ConfigError: If an item has no key.
        """
        restored: dict[int, Entry] = {}
        for index, item in enumerate(items):
            if not self._found:
                self._key_of(item)  # one that has none is an error now, not when its call has been made
                continue
            entry = self.take(item)
            if entry is not None:
                restored[index] = entry
        return restored

    def take(self, item: Any) -> Entry | None:
        """Return what a call of this item gave in an earlier run, once for each time that it finished; else None.

        Raises:
            ConfigError: If the item has no key, or the codec can't read what stands in the file.
        """
        if not self._found:
            return None
        key = self._key_of(item)
        places = self._found.get(key)
        if places is None:
            return None
        if isinstance(places, int) or len(places) == 1:
            del self._found[key]
        place = places if isinstance(places, int) else places.pop(0)
        self.restorable -= 1
        try:
            line = journal_file.line_at(self._handle, place)
        except OSError as error:
            raise ConfigError(f"can't read the journal {self.path}: {error.strerror or error}") from None
        return Entry(self._value(line), line.stats)

    def finished(self, item: Any, value: Any, stats: dict[str, Any] | None = None) -> None:
        """Note that a call gave a value.

        Args:
            item: What was called.
            value: What it gave.
            stats: What else is worth keeping of it, as JSON.

        Raises:
            JournalError: If the value isn't one that the file gives back, or the disk refuses.
            ConfigError: If the item has no key.
        """
        raw = msgspec.Raw(self._json(value))
        self._writer.append(journal_file.seal(Line(self._key_of(item), value=raw, stats=stats)))

    def failed(self, item: Any, error: BaseException | str, stats: dict[str, Any] | None = None) -> None:
        """Note that a call failed; it is made again in the next run.

        Args:
            item: What was called.
            error: Why. Of an exception only the type is kept: its words are somebody else's and may hold a key.
            stats: As for :meth:`finished`.

        Raises:
            JournalError: If the disk refuses.
            ConfigError: If the item has no key.
        """
        words = error if isinstance(error, str) else type(error).__qualname__
        self._writer.append(journal_file.seal(Line(self._key_of(item), error=words, stats=stats)))

    def check(self) -> None:
        """Raise if the disk has refused.

        Raises:
            JournalError: With what isn't on the disk in ``unwritten``.
        """
        self._writer.check()

    def close(self) -> None:
        """Have everything on the disk, and give the lock back; again, it does nothing.

        Raises:
            JournalError: If the disk refuses, or has.
        """
        if self._handle < 0:
            return
        handle, self._handle = self._handle, -1
        try:
            self._writer.close()
        finally:
            os.close(handle)

    def _key_of(self, item: Any) -> str:
        return _digest(item) if self._key is None else _own_key(self._key, item)

    def _json(self, value: Any) -> bytes:
        """Encode a value, and make sure that it comes back as it is: a tuple, say, would be a list after a resume."""
        try:
            if self._codec is not None:
                return msgspec.json.encode(self._codec.encode(value))
            data = msgspec.json.encode(value)
            if msgspec.json.decode(data) == value:
                return data
            why = "which JSON doesn't give back as it was"
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            why = f"which can't be written as JSON: {error}"
        raise JournalError(
            f"the journal {self.path} can't hold a value of type {type(value).__qualname__}, {why}",
            f"give it a codec: Journal({str(self.path)!r}, codec=Codec(encode, decode)), or a type to read values as",
        )

    def _value(self, line: Line) -> Any:
        assert isinstance(line.value, msgspec.Raw)
        value = msgspec.json.decode(line.value)
        if self._codec is None:
            return value
        try:
            return self._codec.decode(value)
        except Exception as error:  # whatever a user's codec raises
            raise ConfigError(
                f"the codec can't read a value of the journal {self.path}: {type(error).__qualname__}: {error}",
                "use the codec that it was written with, or name another file",
            ) from error


def _codec(given: Any) -> Codec | None:
    if given is None or isinstance(given, Codec):
        return given
    return Codec(msgspec.to_builtins, lambda value: msgspec.convert(value, given))


def _digest(item: Any) -> str:
    try:
        data = bytes(item) if isinstance(item, (bytes, bytearray)) else msgspec.json.encode(item, order="deterministic")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"an item of type {type(item).__qualname__} has no key for the journal: {error}",
            "say what names it for good: Journal(path, key=lambda item: …)",
        ) from None
    return hashlib.sha256(data).hexdigest()[:32]


def _own_key(call: Callable[[Any], str | int], item: Any) -> str:
    key = call(item)
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise ConfigError(f"the journal's key of an item is {key!r}; it must be text or a whole number")
    return str(key)


def _plain_config(config: dict[str, Any]) -> dict[str, Json]:
    """Return a configuration as it will be read again, so that the two can be compared."""
    try:
        plain: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(config, order="deterministic"))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"a journal's config must be what JSON holds: {error}") from None
    return plain


def _sha256(config: dict[str, Json]) -> str:
    return hashlib.sha256(msgspec.json.encode(config, order="deterministic")).hexdigest()


def _check_config(head: Head, config: dict[str, Json], path: Path) -> None:
    if head.config_sha256 == _sha256(config):
        return
    names = [name for name in {**head.config, **config} if head.config.get(name, ...) != config.get(name, ...)]
    differs = "; ".join(f"{name} {_was(head.config, name)}, and now {_is(config, name)}" for name in names[:4])
    more = f"; and {len(names) - 4} more" if len(names) > 4 else ""
    raise ConfigError(
        f"the journal {path} is of another configuration: {differs}{more}",
        "run it with that configuration, or name another file for this one",
    )


def _was(config: dict[str, Json], name: str) -> str:
    return f"was {_short(config[name])}" if name in config else "was not set"


def _is(config: dict[str, Json], name: str) -> str:
    return f"is {_short(config[name])}" if name in config else "is not set"


def _short(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}…"


def _finished(reader: Reader) -> dict[str, int | list[int]]:
    """Return where the lines of finished calls stand, by key: values stay in the file until they are asked for."""
    found: dict[str, int | list[int]] = {}
    for line, place in reader.lines():
        if line.value is msgspec.UNSET:
            continue
        before = found.setdefault(line.key, place)
        if isinstance(before, list):
            before.append(place)
        elif before != place:
            found[line.key] = [before, place]
    return found


def _ready(handle: int, reader: Reader, config: dict[str, Json], path: Path) -> int:
    """Cut off what a write left unfinished, see to it that the file has its head, and return where to go on."""
    from loadgen import _core

    at = reader.end
    head = Head(FORMAT, _core.__version__, _sha256(config), config)
    start = journal_file.seal(head) if reader.head is None else b"\n" if reader.lacks_break else b""
    try:
        os.ftruncate(handle, at)
        for _ in journal_file.put(handle, start, at):
            pass  # it is short: one write, or none
        os.fsync(handle)
        if reader.head is None:
            _sync_directory(path)
    except OSError as error:
        raise ConfigError(f"can't write the journal {path}: {error.strerror or error}", "name another file") from None
    return at + len(start)


def _sync_directory(path: Path) -> None:
    """Make a new file's name last as long as its content."""
    handle = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
