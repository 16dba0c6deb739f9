"""A file of answers: made before anything is sent, and what a killed process left of one is removed."""

import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.cli.answers import Replaced
from loadgen.errors import ConfigError


def hidden(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.name.startswith("."))


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_it_takes_its_name_when_it_is_written_and_is_its_owners(tmp_path: Path) -> None:
    with Replaced(str(tmp_path / "o"), "--out") as out:
        (temporary,) = hidden(tmp_path)
        out.put([b"one\n", b"two\n"])
        assert not temporary.exists()
    assert (tmp_path / "o").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "o").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_unwritten_it_leaves_nothing(tmp_path: Path) -> None:
    with Replaced(str(tmp_path / "o"), "--out"):
        assert len(hidden(tmp_path)) == 1
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / ".o.0123456789abcdef"
    names = (".o.1", ".oo.0123456789abcdef", "o.0123456789abcdef", ".o.0123456789abcdef.x")
    others = [tmp_path / name for name in names]
    for path in (left, *others):
        path.write_bytes(b"")
    with Replaced(str(tmp_path / "o"), "--out") as out:
        assert not left.exists()
        out.put([b"x"])
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "o", *others])


def test_that_of_a_process_that_goes_on_stays(tmp_path: Path) -> None:
    with Replaced(str(tmp_path / "o"), "--out") as first:
        (temporary,) = hidden(tmp_path)
        with Replaced(str(tmp_path / "o"), "--out") as second:
            assert temporary in hidden(tmp_path)
            second.put([b"second"])
        first.put([b"first"])
    assert (tmp_path / "o").read_bytes() == b"first"
    assert hidden(tmp_path) == []


def test_one_that_another_process_is_about_to_remove_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    theirs: list[int] = []

    def flock(handle: int, how: int) -> None:
        if not theirs:  # between our making it and our locking it
            theirs.append(os.open(hidden(tmp_path)[0], os.O_RDONLY))
            real(theirs[0], fcntl.LOCK_EX)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Replaced(str(tmp_path / "o"), "--out") as out:
        taken = os.fstat(theirs[0]).st_ino
        next(path for path in hidden(tmp_path) if path.stat().st_ino == taken).unlink()
        os.close(theirs[0])
        out.put([b"x"])
    assert (tmp_path / "o").read_bytes() == b"x"


def test_a_link_named_like_a_temporary_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / ".o.0123456789abcdef").symlink_to(tmp_path / "kept")
    with Replaced(str(tmp_path / "o"), "--out") as out:
        out.put([b"x"])
    assert (tmp_path / "kept").read_bytes() == b"kept"
    assert (tmp_path / ".o.0123456789abcdef").is_symlink()


def test_where_nothing_can_be_made_it_says_so_and_keeps_no_descriptor(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(ConfigError, match=r"can't write --out .*No such file"):
        Replaced(str(tmp_path / "none" / "o"), "--out").__enter__()
    with Replaced(str(tmp_path / "o"), "--out"):
        pass
    with Replaced(str(tmp_path / "o"), "--out") as out:
        out.put([b"x"])
    assert descriptors() == before


def test_on_a_full_disk_the_journal_says_what_is_lost_and_nobody_claims_that_it_holds_it(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("".join(f"item {number}\n" for number in range(3000)))
    command = [sys.executable, "-m", "loadgen", "dispatch", "run", "mock:", "--items", "items.txt", "--quiet"]
    ended = subprocess.run(
        [*command, "--out", "answers.jsonl", "--journal", "batch.journal"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert ended.returncode == 1, ended.stderr
    lost, journal, way_out = ended.stderr.splitlines()
    assert lost == "error: can't write --out answers.jsonl: File too large"
    assert journal == "error: can't write the journal batch.journal: File too large"
    assert "of the calls that ended are in it" in way_out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch.journal", "items.txt"]


def test_a_warning_with_a_way_out_has_a_line_for_each(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("one\n")
    command = [sys.executable, "-m", "loadgen", "dispatch", "run", "mock:", "--items", "items.txt", "--quiet"]
    ended = subprocess.run(
        [*command, "--remember", "learned"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1)),
    )
    warning, way_out = ended.stderr.splitlines()
    assert warning.startswith("warning: what the batch learned isn't remembered: can't write learned: ")
    assert way_out == "       name another file to remember in"


@pytest.mark.parametrize("how", [("--quiet",), ("--json", "--out", "answers.jsonl")])
def test_why_no_call_was_answered_is_said_where_no_summary_says_it(tmp_path: Path, how: tuple[str, ...]) -> None:
    (tmp_path / "items.txt").write_text("one\ntwo\n")
    command = [sys.executable, "-m", "loadgen", "dispatch", "run", "mock:?fault=404", "--items", "items.txt", *how]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (said,) = ended.stderr.splitlines()
    assert said.startswith("error: 2 of 2 calls have no answer: none of 2 attempts succeeded: HTTP 404: ")
