"""A power cut while the superblock of a data file system in use is written: the next start mends it, or says that it
cannot, and never makes the file system anew."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import pytest

from provision import proc
from tests.helpers.host_programs import load

SECTOR, AT = 512, 1024


@pytest.fixture
def data() -> ModuleType:
    load("gpt")
    load("superblock")
    return load("data")


@pytest.fixture
def device(data: ModuleType, tmp_path: Path) -> Path:
    """A file system with a file in it, which somebody has mounted, large enough to have a copy of its superblock."""
    path = tmp_path / "device"
    with path.open("wb") as file:
        file.truncate(160 << 20)
    proc.run(["mke2fs", "-q", "-F", "-O", data._FEATURES, "-b", "4096", "-I", "256", path], package="e2fsprogs")
    (tmp_path / "kept").write_text("what a guest was told")
    change(path, f"write {tmp_path / 'kept'} kept", "set_super_value mtime 20260101")
    return path


def change(device: Path, *commands: str) -> None:
    for command in commands:
        proc.run(["debugfs", "-w", "-R", command, device], package="e2fsprogs")


def superblock(device: Path) -> bytes:
    with device.open("rb") as file:
        file.seek(AT)
        return file.read(2 * SECTOR)


def put(device: Path, at: int, content: bytes) -> None:
    with device.open("r+b") as file:
        file.seek(at)
        file.write(content)


def torn(device: Path) -> tuple[bytes, bytes]:
    """Both ways in which the superblock of another mount may be there by half."""
    before = superblock(device)
    change(
        device, "set_super_value mtime 20260102", "set_super_value mnt_count 7", "set_super_value last_mounted /run/x"
    )
    after = superblock(device)
    assert before[:SECTOR] != after[:SECTOR] and before[SECTOR:] != after[SECTOR:]
    return before[:SECTOR] + after[SECTOR:], after[:SECTOR] + before[SECTOR:]


def check(device: Path) -> int:
    return proc.run(["e2fsck", "-f", "-n", device], package="e2fsprogs", ok=range(256)).returncode


@pytest.mark.parametrize("half", [0, 1])
def test_a_torn_superblock_is_mended_and_nothing_else_is_written(
    data: ModuleType, device: Path, half: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = torn(device)[half]
    put(device, AT, found)
    before = device.read_bytes()
    assert check(device) != 0
    data.mend(device)
    assert check(device) == 0 and "was torn by a power cut, and is mended" in capsys.readouterr().out
    after = device.read_bytes()
    changed = [at for at in range(8 * SECTOR) if before[at] != after[at]]
    assert set(changed) <= set(range(AT + 1020, AT + 1024)) and after[8 * SECTOR :] == before[8 * SECTOR :]
    shown = proc.run(["debugfs", "-R", "cat kept", device], package="e2fsprogs").stdout
    assert shown == b"what a guest was told"
    data.mend(device)
    assert device.read_bytes() == after and capsys.readouterr().out == ""


# Where and what: geometry, magic, UUID, journal.
@pytest.mark.parametrize("at", [24, 40, 57, 88, 104, 119, 224, 236])
def test_another_damage_is_said_and_left_as_it_is(data: ModuleType, device: Path, at: int) -> None:
    found = bytearray(torn(device)[0])
    found[at] ^= 1 << random.Random(at).randrange(8)
    put(device, AT, bytes(found))
    before = device.read_bytes()
    with pytest.raises(data.Refused, match=r"is damaged: its superblock is not as its copy"):
        data.mend(device)
    assert device.read_bytes() == before


def test_without_a_copy_that_is_whole_it_is_left_as_it_is(data: ModuleType, device: Path) -> None:
    put(device, AT, torn(device)[0])
    put(device, 32768 * 4096 + 300, b"x")
    before = device.read_bytes()
    with pytest.raises(data.Refused, match="not as its copy"):
        data.mend(device)
    assert device.read_bytes() == before


def test_what_is_whole_is_not_written_to(data: ModuleType, device: Path) -> None:
    before = device.read_bytes()
    data.mend(device)
    assert device.read_bytes() == before
