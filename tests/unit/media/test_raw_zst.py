"""The compressed base disk, unpacked by zstd."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from provision import proc
from provision.media.layout import MediumLayout, medium_plan
from provision.media.plan import Slot
from provision.media.raw_zst import build_raw_zst
from provision.media.reader import Reader

MIB = 1 << 20
SLOTS = {"seed": Slot(3 * MIB + 4096, MIB + 4096), "grub.cfg": Slot(5 * MIB + 1024, 16 * 1024)}


def disk(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        for at in (0, 2 * MIB + 123, 7 * MIB):
            file.seek(at)
            file.write(random.Random(at).randbytes(100_000))
    return path


def built(tmp_path: Path, slots: Mapping[str, Slot] = SLOTS) -> tuple[Path, Path, dict[str, Slot]]:
    raw, target, scratch = disk(tmp_path / "raw"), tmp_path / "z", tmp_path / "scratch"
    scratch.mkdir()
    return raw, target, build_raw_zst(raw, slots, target, scratch)


def unpacked(path: Path, most: str = "") -> bytes:
    return proc.run(["zstd", "-q", "-d", "-c", *([f"--memory={most}"] if most else []), path], package="zstd").stdout


def test_it_is_the_same_disk(tmp_path: Path) -> None:
    raw, target, _ = built(tmp_path)
    assert unpacked(target) == raw.read_bytes()
    assert target.stat().st_size < 2 * MIB


@pytest.mark.parametrize("size", [0, 1, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, MIB + 4096])
def test_a_host_s_bytes_go_where_they_go_on_the_raw_disk(tmp_path: Path, size: int) -> None:
    raw, target, moved = built(tmp_path)
    contents = {"seed": random.Random(size).randbytes(size), "grub.cfg": b"menuentry"}
    found = []
    for path, slots in ((raw, SLOTS), (target, moved)):
        plan = medium_plan(MediumLayout(path, path.stat().st_size, "0", slots), contents, "r")
        assert sum(len(plan.of_patch(at, range(plan.size))) for at in plan.seed) == size
        with Reader(plan) as reader:
            found.append(b"".join(reader.chunks()))
    (tmp_path / "host.zst").write_bytes(found[1])
    assert unpacked(tmp_path / "host.zst") == found[0]


def test_slots_at_both_ends(tmp_path: Path) -> None:
    slots = {"seed": Slot(0, 4096), "grub.cfg": Slot(8 * MIB - 4096, 4096)}
    raw, target, _ = built(tmp_path, slots)
    assert unpacked(target) == raw.read_bytes()


def test_a_large_slot_needs_no_more_memory(tmp_path: Path) -> None:
    _, target, _ = built(tmp_path, {"seed": Slot(0, 8 * MIB)})
    assert len(unpacked(target, "128KB")) == 8 * MIB
