"""The context of publishers and subscribers over ZMQ: what is private to it, who may use it, how it ends."""

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest
import zmq

from event_support import Contexts, Text
from loadgen.errors import ConfigError, EventError
from loadgen.event import ManagedZMQContext, ZmqMessagePublisher

pytest_plugins = ["event_fixtures"]


def test_its_directory_is_private_and_goes_with_it() -> None:
    with ManagedZMQContext() as ctx:
        publisher = ZmqMessagePublisher(ctx, Text())
        path = Path(publisher.address.removeprefix("ipc://"))
        assert stat.S_IMODE(path.parent.lstat().st_mode) == 0o700
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert len(os.fsencode(path)) <= 103
        publisher.close()
    assert not path.exists()
    assert not ctx.directory.exists()


def test_each_context_and_each_address_is_its_own(contexts: Contexts) -> None:
    a, b = contexts(), contexts()
    assert a.directory != b.directory
    assert len({a.address(), a.address(), b.address()}) == 3


def test_a_directory_that_is_given_is_made_or_must_be_private(tmp_path: Path) -> None:
    new = tmp_path / "new"
    ManagedZMQContext(new).close()
    assert not new.exists()
    new.mkdir(mode=0o700)
    ManagedZMQContext(new).close()
    assert new.exists()  # it was there before


def test_a_directory_that_others_could_have_prepared_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "open"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match=r"open to others \(mode 0777\)"):
        ManagedZMQContext(shared)
    link = tmp_path / "link"
    (tmp_path / "real").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="is a link or a file"):
        ManagedZMQContext(link)


def test_somebody_elses_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with pytest.raises(ConfigError, match="somebody else's"):
        ManagedZMQContext(mine)


def test_a_directory_too_long_for_a_socket_says_how_long(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 100)
    with pytest.raises(ConfigError, match="the system has room for 103"):
        ManagedZMQContext(long)
    assert not long.exists()


def test_a_long_temporary_directory_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("d" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with ManagedZMQContext() as ctx:
        assert not ctx.directory.is_relative_to(long)


def test_only_its_own_addresses_are_listened_at_and_only_this_machines_connected(ctx: ManagedZMQContext) -> None:
    with pytest.raises(EventError, match="no address of this context"):
        ctx.bind(zmq.PUB, "ipc:///tmp/somewhere")
    with pytest.raises(ConfigError, match="no ipc:// address"):
        ctx.connect(zmq.SUB, "tcp://192.0.2.1:5555")
    with pytest.raises(ValueError, match="letters, digits and dashes"):
        ctx.address("../up")


def test_what_lies_at_an_address_is_never_replaced(tmp_path: Path) -> None:
    with ManagedZMQContext(tmp_path / "d") as ctx:
        (ctx.directory / "events").write_text("somebody's")
        assert ctx.address("events").endswith("/events-1")
        address = ctx.address("other")
        (ctx.directory / "other").mkdir()
        with pytest.raises(EventError, match="can't listen at"):
            ctx.bind(zmq.PUB, address)
        (ctx.directory / "other").rmdir()
        (ctx.directory / "events").unlink()


def test_another_thread_is_told_whose_the_sockets_are(ctx: ManagedZMQContext) -> None:
    publisher = ZmqMessagePublisher(ctx, Text())
    problems: list[str] = []

    def use() -> None:
        for call in (lambda: ZmqMessagePublisher(ctx, Text()), ctx.close):
            try:
                call()
            except EventError as error:
                problems.append(error.message)

    thread = threading.Thread(target=use, name="other")
    thread.start()
    thread.join()
    assert problems == ["the thread 'MainThread' has this context's sockets, and this is 'other'"] * 2
    publisher.close()


def test_a_closed_context_says_so_and_closes_again(ctx: ManagedZMQContext) -> None:
    assert ctx.close()
    assert ctx.close()
    with pytest.raises(EventError, match="is closed"):
        ZmqMessagePublisher(ctx, Text())
    with pytest.raises(EventError, match="is closed"):
        ctx.address()  # nobody would remove the directory that it lies in


def test_a_forked_child_can_not_use_it_and_closes_nothing(ctx: ManagedZMQContext) -> None:
    publisher = ZmqMessagePublisher(ctx, Text())
    child = os.fork()
    if child == 0:
        try:
            ctx.close()
            ZmqMessagePublisher(ctx, Text())
        except EventError as error:
            os._exit(7 if "after a fork" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert ctx.directory.exists()
    publisher.close()


def test_who_only_connects_makes_no_directory_which_would_stay_if_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make = tempfile.mkdtemp

    def noted(**where: str) -> str:
        made.append(make(**where))
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    with ManagedZMQContext() as ctx:
        ctx.connect(zmq.SUB, "ipc:///tmp/nobody-there")
        assert made == []
        ctx.address()
        assert made == [str(ctx.directory)]
    assert not Path(made[0]).exists()
