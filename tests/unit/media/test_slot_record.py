"""What a disk says of its slot when it leaves the factory, as the host reads it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.media import slot_record
from tests.helpers.host_programs import load

load("gpt")
HOST: Any = load("slot_record")
REPORT: Any = load("slot_report")
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
        for version in (BASE, f"{BASE}:17:1", f"{BASE}:170:10", f"{BASE}:17:0"):
            for trial in (HOST.NO, HOST.NEXT, HOST.YES):
                HOST.write(file, PLACE, version, trial)
                assert HOST.read(file, PLACE) == (version, trial)
        HOST.write(file, PLACE, BASE)
    assert disk.read_bytes() == bytes(3 * 512) + slot_record.encode(BASE) + b"x" * 512


@pytest.mark.parametrize("version", [BASE, f"{BASE}:17:1", f"{BASE}:{10**17}:{10**8 - 1}"])
def test_earlier_programs_see_a_trial_that_is_about_to_begin(disk: Path, version: str) -> None:
    """They know `yes` and `no`, and take what is otherwise for an empty slot: nothing would run from it."""
    known = re.compile(rb"provision-slot 1\nversion ([!-~]{1,100})\ntrial (yes|no)\n\0*")
    with disk.open("r+b", buffering=0) as file:
        HOST.write(file, PLACE, version, HOST.NEXT)
        found = known.fullmatch(disk.read_bytes()[3 * 512 : 4 * 512])
        assert found is not None and found[2] == b"yes"
        assert found[1].startswith(BASE.encode()) and REPORT.version(found[1].decode()) == REPORT.version(version)
        # One of them ends the trial, with the version as it has read that.
        HOST.write(file, PLACE, found[1].decode())
        assert HOST.read(file, PLACE) == (version, HOST.NO)


@pytest.mark.parametrize(
    "sector",
    [
        bytes(512),
        slot_record.encode("two words"),
        slot_record.encode(BASE)[:-1] + b"x",
        slot_record.encode(BASE).replace(b"slot 1", b"slot 2"),
        slot_record.encode(BASE).replace(b"trial no", b"trial so"),
        slot_record.encode(BASE).replace(b"trial no", b"trial next"),
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
