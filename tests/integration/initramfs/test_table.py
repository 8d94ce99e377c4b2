"""The partition table that a host writes: what provision.media.gpt reads, and only on a disk that is free."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from provision.media import gpt, identity
from tests.helpers.initramfs import SCRIPTS, run

MIB = 1 << 20
SIZE = 64 * MIB
FIRST, SECTORS = 2048, 32768


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


def sh(disk: Path, commands: str, identity_of: str = "0123 serial") -> str:
    """The functions of the table, on a file that stands for the disk."""
    script = (SCRIPTS / "table").read_text().replace("/table.", f"{disk.parent}/table.")
    (disk.parent / "table").write_text(script)
    head = f"device={disk}; sectors={disk.stat().st_size // 512}; identity_of='{identity_of}'; blockdev() {{ :; }}; "
    return run(disk.parent, f"{head} . {disk.parent}/table; make_table; {commands}").strip()


def free(disk: Path) -> bool:
    return sh(disk, "is_free && echo yes || echo no") == "yes"


def test_the_table_is_what_the_other_reader_reads(disk: Path) -> None:
    sh(disk, "write_table")
    table = gpt.read_table(disk)
    (only,) = table.partitions
    assert (only.type, only.name, only.first, only.size) == (identity.TYPE, identity.NAME, FIRST, SECTORS * 512)
    assert table.guid != only.guid and (table.guid.version, only.guid.version) == (4, 4)
    assert identity.capacity(only.size) >= 4 * MIB, "a seed as large as a medium's fits"
    assert disk.read_bytes()[510:512] == b"\x55\xaa"


def test_its_guids_are_the_disk_s_own(disk: Path) -> None:
    sh(disk, "write_table")
    first = gpt.read_table(disk)
    sh(disk, "write_table")
    assert gpt.read_table(disk) == first
    sh(disk, "write_table", "0123 other")
    assert gpt.read_table(disk).guid != first.guid


@pytest.mark.parametrize("at", [0, 446, 512, 1024, 4096, 65536, MIB - 1, MIB + 1080, SIZE - 512, SIZE - MIB + 8])
def test_a_disk_that_holds_anything_is_not_free(disk: Path, at: int) -> None:
    assert free(disk)
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5")
    assert not free(disk)
    sh(disk, "wipe_disk")
    assert free(disk)


def test_whatever_moment_the_power_goes_the_table_is_whole_or_the_disk_is_still_free(disk: Path) -> None:
    sh(disk, "write_table")
    whole = disk.read_bytes()
    changed = [at for at in range(0, SIZE, 512) if any(whole[at : at + 512])]
    # The header in sector 1 is written last, so it is there with all or not at all.
    before_last = [at for at in changed if at != 512]
    chance = random.Random(7)
    for _ in range(12):
        torn = bytearray(SIZE)
        for at in before_last:
            if chance.random() < 0.5:
                torn[at : at + 512] = whole[at : at + 512]
        disk.write_bytes(torn)
        assert free(disk)
        sh(disk, "write_table")
        assert disk.read_bytes() == whole
