"""Programs whose output is read as it comes, and which may do next to nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pytest

from provision import confined
from provision.errors import Unavailable
from provision.proc import Unconfined, filtered


@pytest.fixture
def content(tmp_path: Path) -> Iterator[BinaryIO]:
    (tmp_path / "content").write_bytes(b"abc" * (1 << 20))
    with (tmp_path / "content").open("rb") as file:
        yield file


def test_the_output_comes_in_pieces(content: BinaryIO) -> None:
    pieces = list(filtered(["cat"], content, package="coreutils"))
    assert b"".join(pieces) == b"abc" * (1 << 20)
    assert max(map(len, pieces)) <= 1 << 20


def test_the_program_is_confined(content: BinaryIO) -> None:
    status = b"".join(filtered(["cat", "/proc/self/status"], content, package="coreutils")).decode()
    assert "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status
    assert b"".join(filtered(["env"], content, package="coreutils")) == b""


def test_without_an_end_it_is_read_as_far_as_it_is_wanted(content: BinaryIO) -> None:
    assert [len(piece) for piece in islice(filtered(["yes"], content, package="coreutils"), 2)] == [1 << 20] * 2


@pytest.mark.parametrize(
    ("argv", "timeout", "fact"),
    [
        (["cat", "/no/such"], 60, "failed with exit code 1: .*No such file"),
        (["sleep", "60"], 0.3, "did not finish within 0 s"),
        (["yes"], 0.3, "did not finish within 0 s"),
        (["no-such-program"], 60, "is not installed"),
    ],
)
def test_a_failure_is_told_at_the_end(content: BinaryIO, argv: list[str], timeout: float, fact: str) -> None:
    with pytest.raises(Unavailable, match=fact):
        for _ in filtered(argv, content, package="coreutils", timeout=timeout):
            pass


def test_nothing_runs_that_cannot_be_confined(
    content: BinaryIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = tmp_path / "refusal.py"
    refusal.write_text(f"import sys\nsys.stderr.write('cannot be confined: no')\nsys.exit({confined.FAILED})\n")
    monkeypatch.setattr(confined, "__file__", str(refusal))
    with pytest.raises(Unconfined, match="cat: cannot be confined: no"):
        list(filtered(["cat"], content, package="coreutils"))


THREADED = """
import os, sys, threading
thread = threading.Thread(target=print, args=("a thread",))
thread.start()
thread.join()
for what in (os.fork, lambda: os.posix_spawn("/bin/true", ["true"], {}), lambda: os.execv("/bin/true", ["true"])):
    try:
        what()
    except PermissionError:
        print("refused", flush=True)
"""


def test_threads_are_no_way_to_a_process(content: BinaryIO) -> None:
    """A program that needs threads gets them, and still no process and no other program."""
    said = filtered([sys.executable, "-I", "-c", THREADED], content, package="python3", threads=True)
    assert b"".join(said) == b"a thread\n" + b"refused\n" * 3
    with pytest.raises(Unavailable, match="start new thread"):
        list(
            filtered(
                [sys.executable, "-I", "-c", "import _thread; _thread.start_new_thread(int, ())"], content, package="p"
            )
        )
