"""The base disk as qcow2, read back by QEMU's own tools."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from provision import proc
from provision.media.layout import MediumLayout, medium_plan
from provision.media.plan import Slot
from provision.media.qcow2 import build_qcow2
from provision.media.reader import Reader

MIB = 1 << 20
SLOTS = {"seed": Slot(3 * MIB + 4096, MIB), "grub.cfg": Slot(5 * MIB + 1024, 16 * 1024)}


def disk(path: Path, size: int) -> Path:
    """A disk with some data, much nothing, and a last cluster that is not whole."""
    with path.open("wb") as file:
        file.truncate(size)
        for at in (0, 2 * MIB + 123, size - 1000):
            file.seek(at)
            file.write(random.Random(at).randbytes(1000))
    return path


def qemu_img(*words: str | Path) -> None:
    proc.run(["qemu-img", *words], package="qemu-utils")


@pytest.mark.parametrize("size", [8 * MIB + 512, 700 * MIB])
def test_it_is_the_same_disk(tmp_path: Path, size: int) -> None:
    raw, target = disk(tmp_path / "raw", size), tmp_path / "q"
    build_qcow2(raw, SLOTS, target)
    qemu_img("check", target)
    qemu_img("compare", raw, target)
    assert target.stat().st_size < 4 * MIB


def test_a_second_block_of_reference_counts(tmp_path: Path) -> None:
    size = 2300 * MIB
    raw, target = disk(tmp_path / "raw", size), tmp_path / "q"
    slots = {"seed": Slot(4 * MIB, 2200 * MIB)}
    with raw.open("r+b") as file:
        file.seek(2100 * MIB)
        file.write(b"far away")
    moved = build_qcow2(raw, slots, target)
    qemu_img("check", target)
    qemu_img("compare", raw, target)
    with target.open("rb") as file:
        file.seek(moved["seed"].offset + 2096 * MIB)
        assert file.read(8) == b"far away"


def test_a_host_s_bytes_go_where_they_go_on_the_raw_disk(tmp_path: Path) -> None:
    raw, target = disk(tmp_path / "raw", 8 * MIB), tmp_path / "q"
    moved = build_qcow2(raw, SLOTS, target)
    contents = {"seed": random.Random(1).randbytes(MIB), "grub.cfg": b"menuentry"}
    for path, slots in ((raw, SLOTS), (target, moved)):
        plan = medium_plan(MediumLayout(path, path.stat().st_size, "0", slots), contents, "r")
        with Reader(plan) as reader, (tmp_path / f"{path.name}.host").open("wb") as file:
            file.writelines(reader.chunks())
    qemu_img("check", tmp_path / "q.host")
    qemu_img("compare", tmp_path / "raw.host", tmp_path / "q.host")
    assert (tmp_path / "q.host").stat().st_size == target.stat().st_size


def test_the_same_disk_gives_the_same_bytes(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 8 * MIB)
    build_qcow2(raw, SLOTS, tmp_path / "a")
    build_qcow2(raw, SLOTS, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
