"""The ZMQ context of a session: a private directory for its addresses, every socket, and their end."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import zmq

from loadgen.errors import ConfigError, EventError

_log = logging.getLogger("loadgen.event")

_LONGEST_PATH = 103  # bytes of a socket's path: macOS has room for this many and its NUL, Linux for 4 more
_LONGEST_NAME = 24
_AFTER_INTERRUPT_S = 2.0
_IPC = "ipc://"

Socket = zmq.Socket[bytes]


class ManagedZMQContext:
    """Owns a ZMQ context, the directory of its ``ipc://`` addresses, and every socket made in it.

    One thread makes and uses all of its sockets: the first that asks for one. Leaving the ``with`` block closes it.

    Args:
        directory: Where its addresses lie: a new directory, or one that is the user's own and closed to others
            (mode 0700); ``None`` for a new one in the runtime or temporary directory.

    Raises:
        ConfigError: If the directory is anybody else's, open to others, a link, or too long for a socket's path.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self._directory: Path | None = None
        self._made = False
        if directory is not None:
            self._directory, self._made = _own(Path(directory))
        self._context: zmq.Context[Socket] = zmq.Context()
        self._sockets: set[Socket] = set()
        self._names: set[str] = set()
        self._bound: list[Path] = []
        self._owner: threading.Thread | None = None
        self._pid = os.getpid()
        self._lingers_until = 0.0
        self._all_taken: bool | None = None

    @property
    def directory(self) -> Path:
        """Where its addresses lie; a new one is made when it is first asked for: who only connects needs none."""
        if self._directory is None:
            self._check_open()  # nobody would remove it
            self._directory, self._made = _new()
        return self._directory

    def address(self, name: str = "events") -> str:
        """Return an address of its own that nobody else was given.

        Args:
            name: What it is for; letters, digits and dashes, at most 20.

        Raises:
            ValueError: If the name is none.
            EventError: If the context is closed, or another process's, and has no directory yet.
        """
        if not (name.replace("-", "").isalnum() and name.isascii() and len(name) <= _LONGEST_NAME - 4):
            raise ValueError(f"{name!r} must be letters, digits and dashes, at most {_LONGEST_NAME - 4} of them")
        found, n = name, 0
        while found in self._names or (self.directory / found).exists():
            n += 1
            found = f"{name}-{n}"
        self._names.add(found)
        return f"{_IPC}{self.directory / found}"

    def bind(self, kind: int, address: str, **options: int) -> Socket:
        """Make a socket that listens at one of its addresses.

        Args:
            kind: ``zmq.XPUB``, say.
            address: From :meth:`address`.
            **options: ZMQ's, by their names in small letters: ``sndhwm=1000``.

        Raises:
            EventError: If the address isn't one of its own or can't be listened at, or on another thread.
        """
        path = Path(address.removeprefix(_IPC))
        if path.name not in self._names or path.parent != self._directory:
            raise EventError(f"{address} is no address of this context", "take one from its address()")
        socket = self._socket(kind, options)
        try:
            socket.bind(address)
            self._bound.append(path)
            path.chmod(0o600)
        except (zmq.ZMQError, OSError) as error:
            self.close_socket(socket, 0)
            raise EventError(f"can't listen at {address}: {error.strerror or error}") from None
        return socket

    def connect(self, kind: int, address: str, *, subscribe: tuple[bytes, ...] = (), **options: int) -> Socket:
        """Make a socket that connects to an address, now or as soon as somebody listens there.

        Args:
            kind: ``zmq.SUB``, say.
            address: ``ipc://PATH``: this machine's only.
            subscribe: What a subscriber asks for, in this order.
            **options: As for :meth:`bind`.

        Raises:
            ConfigError: If the address is another machine's, or too long.
            EventError: On another thread than the one that has its sockets.
        """
        if not address.startswith(_IPC):
            raise ConfigError(f"{address} is no ipc:// address", "events stay on this machine")
        _check_length(Path(address.removeprefix(_IPC)), 0)
        socket = self._socket(kind, options)
        for prefix in subscribe:
            socket.setsockopt(zmq.SUBSCRIBE, prefix)
        socket.connect(address)
        return socket

    def _socket(self, kind: int, options: dict[str, int]) -> Socket:
        self._check_use()
        socket = self._context.socket(kind)
        for name, value in options.items():
            socket.setsockopt(zmq.SocketOption[name.upper()], value)
        self._sockets.add(socket)
        return socket

    def _check_open(self) -> None:
        if self._all_taken is not None:
            raise EventError("this context is closed", "make another")
        if self._pid != os.getpid():
            raise EventError("a ZMQ context can't be used after a fork", "make one in the child")

    def _check_use(self) -> None:
        self._check_open()
        here = threading.current_thread()
        if self._owner is None or not (self._owner.is_alive() and self._sockets):
            self._owner = here
        elif self._owner is not here:
            raise EventError(
                f"the thread {self._owner.name!r} has this context's sockets, and this is {here.name!r}",
                "make a context for each thread",
            )

    def close_socket(self, socket: Socket, linger: float) -> None:
        """Close one of its sockets. What it has not delivered yet is delivered meanwhile.

        Args:
            socket: From :meth:`bind` or :meth:`connect`.
            linger: Seconds to go on delivering; :meth:`close` waits for it.
        """
        if socket in self._sockets:
            self._sockets.remove(socket)
            if linger > 0:
                self._lingers_until = max(self._lingers_until, time.monotonic() + linger)
            socket.close(linger=round(linger * 1000))

    def close(self, timeout: float = 60.0) -> bool:
        """Close every socket, wait for consumers to take what was sent, and remove its files. May be called again.

        Args:
            timeout: Seconds to wait at most; a ``KeyboardInterrupt`` makes it 2 from then on and is raised afterwards.

        Returns:
            Whether everything was taken. What was not is logged.

        Raises:
            EventError: If another thread that still runs has open sockets.
        """
        if self._all_taken is not None or self._pid != os.getpid():
            return self._all_taken is not False  # a child after a fork has no socket to close
        if self._sockets:
            self._check_use()
        for socket in list(self._sockets):
            self.close_socket(socket, 0 if socket.type == zmq.SUB else timeout)  # a subscriber has nothing to deliver
        self._all_taken = False
        ended = threading.Event()
        try:
            # On a thread of its own, as nothing ends zmq_ctx_term before its sockets have lingered.
            threading.Thread(target=self._end, args=(ended,), name="loadgen-zmq-end", daemon=True).start()
            wait_at_most(ended, timeout + 0.5)
        finally:
            self._remove_files()
            if not self._all_taken:
                _log.warning("a subscriber had not taken everything when its time was up; the rest is left behind")
        return self._all_taken

    def _end(self, ended: threading.Event) -> None:
        self._context.term()
        self._all_taken = not self._lingers_until or time.monotonic() < self._lingers_until
        ended.set()

    def _remove_files(self) -> None:
        try:
            for path in self._bound:
                path.unlink(missing_ok=True)
            if self._directory is not None and self._made and not any(self._directory.iterdir()):
                self._directory.rmdir()
        except OSError as error:
            _log.warning("the directory of sockets %s stays: %s", self._directory, error.strerror or error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_at_most(ended: threading.Event, timeout: float) -> bool:
    """Wait for an event; an interrupt shortens the wait to 2 seconds and is raised after it.

    Args:
        ended: The event.
        timeout: Seconds.

    Returns:
        Whether it came.
    """
    try:
        return ended.wait(timeout)
    except KeyboardInterrupt:
        ended.wait(min(timeout, _AFTER_INTERRUPT_S))
        raise


def _new() -> tuple[Path, bool]:
    """Make a directory that nobody else can have prepared: its name is random, and it must not exist."""
    bases = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]  # noqa: S108  mkdtemp is safe there
    for base in bases:
        if not Path(base).is_absolute() or len(os.fsencode(base)) + len("/loadgen-01234567/") + _LONGEST_NAME > 100:
            continue
        with suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="loadgen-", dir=base)), True
    raise ConfigError(
        f"no directory for sockets can be made in {', '.join(filter(None, bases))}", "give one: directory=…"
    )


def _own(path: Path) -> tuple[Path, bool]:
    path = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow the link that is refused below
    _check_length(path, 1 + _LONGEST_NAME)
    made = True
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        made = False
    except OSError as error:
        raise ConfigError(f"can't make the directory {path}: {error.strerror or error}") from None
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(
            f"{path} is a link or a file, not a directory of sockets", "name a directory that isn't there yet"
        )
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{path} is somebody else's directory", "name one that isn't there yet")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})", f"chmod 700 {path}")
    return path, made


def _check_length(path: Path, more: int) -> None:
    length = len(os.fsencode(path)) + more
    if length > _LONGEST_PATH:
        raise ConfigError(
            f"{path} makes a socket's path of {length} bytes, and the system has room for {_LONGEST_PATH}",
            "name a shorter directory",
        )
