"""What a disk says of its slot when it leaves the factory, as the host reads it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.media import slot_record
from tests.helpers.host_programs import load

load("gpt")
HOST: Any = load("slot_record")
BASE = "0a" * 32
PLACE = SimpleNamespace(last=3)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(3 * 512) + slot_record.encode(BASE) + b"x" * 512)
    return path


def test_the_host_reads_it_and_writes_it_alike(disk: Path) -> None:
    with disk.open("r+b", buffering=0) as file:
        assert HOST.read(file, PLACE) == (BASE, HOST.NO)
        for trial in (HOST.NEXT, HOST.YES):
            HOST.write(file, PLACE, f"{BASE}:17:1", trial)
            assert HOST.read(file, PLACE) == (f"{BASE}:17:1", trial)
        HOST.write(file, PLACE, BASE)
    assert disk.read_bytes() == bytes(3 * 512) + slot_record.encode(BASE) + b"x" * 512


@pytest.mark.parametrize(
    "sector",
    [
        bytes(512),
        slot_record.encode("two words"),
        slot_record.encode(BASE)[:-1] + b"x",
        slot_record.encode(BASE).replace(b"slot 1", b"slot 2"),
        slot_record.encode(BASE).replace(b"trial no", b"trial so"),
    ],
)
def test_what_it_does_not_know_is_nothing_whole(disk: Path, sector: bytes) -> None:
    with disk.open("r+b", buffering=0) as file:
        file.seek(3 * 512)
        file.write(sector)
        assert HOST.read(file, PLACE) == (None, HOST.NO)
        HOST.write(file, PLACE, BASE)
        HOST.write(file, PLACE, None)
        assert HOST.read(file, PLACE) == (None, HOST.NO)
