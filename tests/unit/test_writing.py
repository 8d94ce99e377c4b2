"""Files that appear whole or not at all, and that replace no device, FIFO, link or directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from provision.api.hosts import HostRow
from provision.cli.alone import connect
from provision.errors import Conflict, Exit, Invalid, Unavailable
from provision.settings import load
from provision.writing import continuing, making, replacing
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import CANARY, closed_site


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(out) as descriptor:
        os.write(descriptor, b"half")
        raise KeyboardInterrupt
    assert (out.read_bytes(), list(tmp_path.iterdir())) == (b"old", [out])
    with replacing(out) as descriptor:
        os.write(descriptor, b"new")
    assert (out.read_bytes(), list(tmp_path.iterdir())) == (b"new", [out])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_file_system_without_unnamed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    real = os.open

    def without(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", without)
    try:
        with replacing(tmp_path / "out"):
            assert len(list(tmp_path.iterdir())) == 1
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert interrupted
    assert [path.name for path in tmp_path.iterdir()] == ([] if interrupted else ["out"])


def make_null(path: Path) -> None:
    """Another node of the device that swallows everything."""
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to(path.with_name("fifo"))


@pytest.mark.parametrize("make", [make_null, os.mkfifo, link_to_fifo])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, make: object) -> None:
    path = tmp_path / "sdx"
    assert callable(make)
    make(path)
    before = path.lstat()
    with pytest.raises(Invalid, match=r"not a regular file; write to a file, then 'dd if=FILE of=.*sdx bs=4M"):
        replacing(path).__enter__()
    assert path.lstat() == before


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="name a file"):
        replacing(tmp_path).__enter__()


def acts(state: Path) -> int:
    """The entries of the audit log, without those of reading it."""
    return sum(entry["event"] != "audit-read" for entry in cli(state, "audit", "--json").json)


@pytest.mark.parametrize("command", [("iso", "node1"), ("disk", "node1"), ("dhcp",), ("render",)], ids=" ".join)
def test_no_command_writes_to_a_device(tmp_path: Path, command: tuple[str, ...]) -> None:
    state, path = closed_site(tmp_path), tmp_path / "sdx"
    os.mkfifo(path)
    entries = acts(state)
    ran = cli(state, *command, "-o", path)
    assert (ran.code, ran.out, ran.err.count("\n")) == (
        Exit.CONFLICT if command == ("render",) else Exit.INVALID,
        "",
        1,
    )
    assert path.is_fifo()
    assert acts(state) == entries, "nothing was asked for"


def test_no_batch_writes_to_a_device(tmp_path: Path) -> None:
    state, batch = closed_site(tmp_path), tmp_path / "batch"
    batch.mkdir()
    os.mkfifo(batch / "node1.iso")
    ran = cli(state, "iso", "--selector", "rack=a", "--out", batch)
    assert (ran.code, ran.err.count("\n")) == (Exit.INVALID, 1)
    assert "node1.iso: is not a regular file" in ran.err
    assert (batch / "node1.iso").is_fifo()
    assert not any(CANARY in path.read_bytes() for path in batch.iterdir() if path.is_file())


def test_a_directory_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / ".tree.4194305-0123abcd" / "half").mkdir(parents=True)  # what kill -9 leaves
    with pytest.raises(KeyboardInterrupt), making(tmp_path / "tree") as beside:
        assert list(tmp_path.iterdir()) == [beside]
        with making(tmp_path / "tree") as other:
            assert set(tmp_path.iterdir()) == {beside, other}, "what is being written is not swept"
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with making(tmp_path / "tree") as beside:
        (beside / "file").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["tree", "file"]


def test_what_was_written_is_given_again(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / ".out.k1.part"
    for error in (KeyboardInterrupt, Unavailable("x", "y")):
        with pytest.raises((KeyboardInterrupt, Unavailable)), continuing(out, "k1") as descriptor:
            os.pwrite(descriptor, b"half", os.fstat(descriptor).st_size)
            raise error
    assert (kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode), out.exists()) == (b"halfhalf", 0o600, False)
    with continuing(out, "k1") as descriptor:
        assert os.pread(descriptor, 99, 0) == b"halfhalf"
    assert (out.read_bytes(), list(tmp_path.iterdir())) == (b"halfhalf", [out])


def test_what_is_of_another_key_or_no_good_is_deleted(tmp_path: Path) -> None:
    out, old = tmp_path / "[out]*", tmp_path / ".[out]*.k1.part"
    (tmp_path / ".other.k1.part").touch()
    old.write_bytes(b"half")
    for error in (Conflict("x", "y"), Invalid("x", "y")):
        with pytest.raises(type(error)), continuing(out, "k2") as descriptor:
            assert os.pread(descriptor, 9, 0) == b""
            assert not old.exists()
            os.write(descriptor, b"of no use")
            raise error
    assert [path.name for path in tmp_path.iterdir()] == [".other.k1.part"]


def test_one_process_goes_on_at_a_time(tmp_path: Path) -> None:
    with continuing(tmp_path / "out", "k"):
        with pytest.raises(Conflict, match="another process writes it"), continuing(tmp_path / "out", "k"):
            raise AssertionError("it was let in")
        assert [path.name for path in tmp_path.iterdir()] == [".out.k.part"]


def open_to_others(path: Path) -> None:
    path.touch()
    path.chmod(0o620)


def with_another_name(path: Path) -> None:
    path.touch(0o600)
    path.with_name("another").hardlink_to(path)


def private_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("make", [open_to_others, with_another_name, private_pipe])
def test_what_somebody_else_could_have_written_is_not_gone_on_with(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / ".out.k.part")
    with pytest.raises(Invalid, match="is not a file that you alone can write; delete it"):
        continuing(tmp_path / "out", "k").__enter__()


def test_nor_is_a_link_followed(tmp_path: Path) -> None:
    (tmp_path / ".out.k.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        continuing(tmp_path / "out", "k").__enter__()
    assert not (tmp_path / "elsewhere").exists()


def test_the_socket_of_a_command_is_swept_however_long_its_path(tmp_path: Path) -> None:
    directory = tmp_path / ("long-" * 24)
    directory.mkdir()
    state = closed_site(directory)
    with connect(load(state, state / "provision.toml")) as client:
        assert [host.name for host in client.call(list[HostRow], "GET", "/v1/hosts")] == ["node1", "node2", "node3"]
        assert [path.suffix for path in (state / "tmp").iterdir()] == [".sock"]
    assert list((state / "tmp").iterdir()) == []
