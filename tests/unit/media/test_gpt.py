"""Partition tables: written, read back, and judged by another program."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from provision import proc
from provision.errors import Invalid
from provision.media import gpt

SECTORS = 8192
TABLE = gpt.Table(
    UUID(int=0x1234),
    (
        gpt.Partition(gpt.BIOS_BOOT, UUID(int=1), 34, 2047, "bios"),
        gpt.Partition(gpt.EFI_SYSTEM, UUID(int=2), 2048, 4095, "esp"),
        gpt.Partition(gpt.LINUX, UUID(int=3), 4096, SECTORS - gpt.TAIL - 1, "boot"),
    ),
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(b"\xeb" * 440 + bytes(SECTORS * gpt.SECTOR - 440))
    gpt.write_table(path, TABLE)
    return path


def test_what_was_written_is_read(disk: Path) -> None:
    assert gpt.read_table(disk) == TABLE
    assert disk.read_bytes()[:440] == b"\xeb" * 440
    assert TABLE.partitions[1].offset == TABLE.partitions[1].size == 1 << 20


def test_the_first_usable_sector_is_read(disk: Path) -> None:
    later = gpt.Table(TABLE.guid, TABLE.partitions[1:], gpt.FIRST_USABLE_TWICE)
    gpt.write_table(disk, later)
    assert gpt.read_table(disk) == later and later.first_usable == 66


def test_sfdisk_finds_it_valid(disk: Path) -> None:
    done = proc.run(["sfdisk", "--verify", disk], package="fdisk")
    assert b"No errors detected" in done.stdout
    table = json.loads(proc.run(["sfdisk", "--json", disk], package="fdisk").stdout)["partitiontable"]
    assert table["label"] == "gpt"
    assert [(p["start"], p["size"], p["name"], UUID(p["type"])) for p in table["partitions"]] == [
        (p.first, p.size // gpt.SECTOR, p.name, p.type) for p in TABLE.partitions
    ]


def test_the_protective_record_covers_the_disk(disk: Path) -> None:
    mbr = disk.read_bytes()[:512]
    assert mbr[510:] == b"\x55\xaa"
    assert (mbr[446], mbr[450], mbr[454:458]) == (0, 0xEE, b"\1\0\0\0")
    assert int.from_bytes(mbr[458:462], "little") == SECTORS - 1


@pytest.mark.parametrize("sector", [1, 2, SECTORS - 33, SECTORS - 1])
def test_damage_in_either_copy_is_found(disk: Path, sector: int) -> None:
    content = bytearray(disk.read_bytes())
    content[sector * gpt.SECTOR + 24] ^= 1
    disk.write_bytes(content)
    with pytest.raises(Invalid, match="partition"):
        gpt.read_table(disk)


def test_a_disk_without_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(bytes(4096))
    with pytest.raises(Invalid, match="has no partition table in sector 1"):
        gpt.read_table(tmp_path / "empty")


def test_a_cut_off_disk_is_refused(disk: Path) -> None:
    content = disk.read_bytes()
    disk.write_bytes(content[: -gpt.SECTOR])
    with pytest.raises(Invalid, match="in sector 1 that belongs elsewhere"):
        gpt.read_table(disk)
