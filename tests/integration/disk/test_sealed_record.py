"""A power cut while a host stores its envelope: whatever of the writes the disk has done, the record of before or the
new one is whole, for the program and for the initramfs."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from provision.media import identity
from tests.helpers.host_programs import load

RECORD: Any = load("record")
SIZE, SECTOR = 64 * 1024, 512
CLEAR, NEW = b"an identity in clear " * 1000, RECORD.pack(b"the new envelope " * 1000, b"its seed")
OLD = RECORD.pack(b"the envelope of before " * 900)
Write = tuple[int, bytes]


class Disk(io.FileIO):
    """A partition that notes what is written to it, in groups that a flush ends."""

    def __init__(self, path: Path) -> None:
        self.groups: list[list[Write]] = [[]]
        super().__init__(path, "r+b")

    def write(self, data: Any) -> int:
        self.groups[-1].append((self.tell(), bytes(data)))
        return super().write(data)

    def flushed(self, _: int) -> None:
        self.groups.append([])


def partition(*copies: tuple[int, int, bytes]) -> bytes:
    """One with these records: the place, the number and the content of each."""
    disk = bytearray(SIZE)
    for place, number, content in copies:
        for offset, data in identity.write(SIZE, place, number, content):
            disk[offset : offset + len(data)] = data
    return bytes(disk)


def groups(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[list[Write]]:
    """What is written when the new record is."""
    disk, found = Disk(path), RECORD.Partition(path)
    with monkeypatch.context() as patched:
        patched.setattr(RECORD, "_PIECE", 4096)
        patched.setattr(type(path), "open", lambda *_, **__: disk)
        patched.setattr(os, "fsync", disk.flushed)
        found.write(NEW)
    return disk.groups


def cuts(before: bytes, written: list[list[Write]]) -> Iterator[tuple[int, bytes]]:
    """How many flushes were done, and what a power cut may leave then: all that was flushed, and of the rest any
    sectors, in any order; here those up to each write, those behind it, and some at random. A sector may be torn, too.
    """
    disk, random = bytearray(before), Random(12)
    for done, group in enumerate(written):
        sectors = [(at + n, data[n : n + SECTOR]) for at, data in group for n in range(0, len(data), SECTOR)]
        ends = [at + len(data) for at, data in group]
        chosen = [{at for at, _ in sectors if (at < end) is first} for end in ends for first in (True, False)]
        chosen += [{at for at, _ in sectors if random.random() < 0.5} for _ in range(4)]
        for some in chosen:
            state = bytearray(disk)
            for at, data in sectors:
                half = data[: len(data) // 2] if at == max(some, default=-1) and len(some) % 2 else data
                if at in some:
                    state[at : at + len(half)] = half
            yield done, bytes(state)
        for at, data in group:
            disk[at : at + len(data)] = data
    yield len(written), bytes(disk)


@pytest.mark.parametrize(
    "copies",
    [
        [(0, 7, OLD), (1, 8, OLD)],
        [(0, 8, OLD), (1, 7, CLEAR)],
        [(1, 7, OLD)],
        [(0, 10**18 - 2, OLD), (1, 10**18 - 1, OLD)],
        [],
    ],
)
def test_the_record_of_before_or_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: list[tuple[int, int, bytes]]
) -> None:
    path, before = tmp_path / "part", partition(*copies)
    old = max((number, content) for _, number, content in copies)[1] if copies else None
    path.write_bytes(before)
    written = groups(monkeypatch, path)
    assert [len(group) for group in written] == [8, 1, 8, 1, 0], "content, header, content, header, each flushed"
    found = []
    for done, state in cuts(before, written):
        path.write_bytes(state)
        copy = identity.newest(state)
        found.append(copy.content if copy is not None else None)
        assert found[-1] in ((old, NEW) if done < 3 else (NEW,))
        assert RECORD.Partition(path).kept() == (RECORD.unpack(found[-1]) if found[-1] is not None else None)
    assert old in found
    left = path.read_bytes()
    assert left.count(NEW) == 2 and b"of before" not in left and b"in clear" not in left
