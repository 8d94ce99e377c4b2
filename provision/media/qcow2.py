"""The base disk as qcow2 (QEMU's docs/interop/qcow2.txt, version 3): what virtual machines and clouds import.

Clusters of zeros take no room. Those that a slot touches are there whatever they hold, one after the other, so that a
host's bytes go into the file at one place, as they do on the raw disk.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from provision.media.plan import Slot

_BITS = 16
_CLUSTER = 1 << _BITS
_NOTHING = bytes(_CLUSTER)
_ENTRY = 8
_PER_TABLE = _CLUSTER // _ENTRY
_REFCOUNT_ORDER = 4
_COUNTED = _CLUSTER // 2  # clusters by one block of 16-bit reference counts
_OWNED = 1 << 63  # the reference count is one, so a writer need not copy
_HEADER = 104


def build_qcow2(disk: Path, slots: Mapping[str, Slot], target: Path) -> dict[str, Slot]:
    """Write the raw image at `disk` to `target` as qcow2, and return where its slots are there."""
    size = disk.stat().st_size
    count = -(-size // _CLUSTER)
    kept = {cluster for slot in slots.values() for cluster in _touched(slot)}
    with disk.open("rb") as source, target.open("wb") as file:
        used = [number for number in range(count) if number in kept or _has_data(source, number)]
        plan = _Plan(count, len(used))
        places = {number: plan.data + place * _CLUSTER for place, number in enumerate(used)}
        file.write(_header(size, plan))
        for at, table in plan.tables(places):
            file.seek(at)
            file.write(table)
        for number in used:
            source.seek(number * _CLUSTER)
            data = source.read(_CLUSTER)
            if not _is_zero(data):
                file.seek(places[number])
                file.write(data)
        file.truncate(plan.data + len(used) * _CLUSTER)
    return {name: _moved(slot, places) for name, slot in slots.items()}


class _Plan:
    """Where everything is: the header, the reference counts, the two levels of the table, and the data, in clusters."""

    def __init__(self, clusters: int, used: int) -> None:
        self._seconds = -(-clusters // _PER_TABLE)
        firsts = -(-self._seconds * _ENTRY // _CLUSTER)
        self.first_entries = self._seconds
        blocks, tables = 1, 1
        while True:
            self.total = 1 + tables + blocks + firsts + self._seconds + used
            wanted = -(-self.total // _COUNTED)
            if wanted <= blocks:
                break
            blocks, tables = wanted, -(-wanted * _ENTRY // _CLUSTER)
        self.refcount_clusters, self._blocks = tables, blocks
        self.refcounts = _CLUSTER
        self._block = self.refcounts + tables * _CLUSTER
        self.firsts = self._block + blocks * _CLUSTER
        self._second = self.firsts + firsts * _CLUSTER
        self.data = self._second + self._seconds * _CLUSTER

    def tables(self, places: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """Every table with its offset; `places` are the offsets of the data clusters by their numbers."""
        yield self.refcounts, _entries(self._block + number * _CLUSTER for number in range(self._blocks))
        yield self._block, b"\0\1" * self.total
        yield (
            self.firsts,
            _entries(_OWNED | (self._second + number * _CLUSTER) for number in range(self._seconds)),
        )
        entries = (_OWNED | places[n] if n in places else 0 for n in range(self._seconds * _PER_TABLE))
        yield self._second, _entries(entries)


def _header(size: int, plan: _Plan) -> bytes:
    # No backing file, no encryption, no snapshots, no features.
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, _BITS, size, 0, plan.first_entries, plan.firsts,
                       plan.refcounts, plan.refcount_clusters, 0, 0)  # fmt: skip
    return head + struct.pack(">QQQII", 0, 0, 0, _REFCOUNT_ORDER, _HEADER) + bytes(8)


def _entries(values: Iterator[int]) -> bytes:
    return b"".join(value.to_bytes(_ENTRY, "big") for value in values)


def _touched(slot: Slot) -> range:
    return range(slot.offset // _CLUSTER, (slot.offset + slot.size - 1) // _CLUSTER + 1)


def _has_data(source: BinaryIO, number: int) -> bool:
    source.seek(number * _CLUSTER)
    return not _is_zero(source.read(_CLUSTER))


def _is_zero(data: bytes) -> bool:
    """Whether a cluster holds nothing; most of a disk does, and comparing is a hundred times as fast as looking."""
    return data == _NOTHING[: len(data)]


def _moved(slot: Slot, places: Mapping[int, int]) -> Slot:
    first, within = divmod(slot.offset, _CLUSTER)
    return Slot(places[first] + within, slot.size)
