"""A power cut while the data partition gets its file system: the next start makes it anew, and never one in use."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from provision import proc
from tests.helpers.host_programs import load


@pytest.fixture
def data() -> ModuleType:
    load("gpt")
    load("superblock")
    return load("data")


def file_system(data: ModuleType, path: Path, *commands: str) -> bytes:
    """The superblock of a new file system, as the host makes it, changed by debugfs."""
    with path.open("wb") as file:
        file.truncate(32 << 20)
    proc.run(["mke2fs", "-q", "-F", "-O", data._FEATURES, "-b", "4096", path], package="e2fsprogs")
    for command in commands:
        proc.run(["debugfs", "-w", "-R", command, path], package="e2fsprogs")
    return path.read_bytes()[1024:2048]


def found(data: ModuleType, path: Path, superblock: bytes) -> bool:
    path.write_bytes(bytes(1024) + superblock)
    gpt = load("gpt")
    with path.open("rb") as file:
        whole = data.has_file_system(file, gpt.Partition(1, *gpt.DATA[:1], None, 0, 10, 0, "data"))
    assert isinstance(whole, bool)
    return whole


def test_half_of_a_new_superblock_is_none(data: ModuleType, tmp_path: Path) -> None:
    whole = file_system(data, tmp_path / "disk")
    other = file_system(data, tmp_path / "disk")
    assert found(data, tmp_path / "part", whole)
    for torn in (bytes(1024), whole[:512] + bytes(512), bytes(512) + whole[512:], whole[:512] + other[512:]):
        assert not found(data, tmp_path / "part", torn)


def test_one_that_was_mounted_is_never_made_anew(data: ModuleType, tmp_path: Path) -> None:
    mounted = file_system(data, tmp_path / "disk", "set_super_value mtime 20260101")
    assert found(data, tmp_path / "part", mounted)
    assert found(data, tmp_path / "part", mounted[:512] + bytes(512))
