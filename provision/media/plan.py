"""Patch plans: a per-host medium is a base file read through (offset, bytes) patches; it is never built or stored."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

REFUSAL = "refusal"
"""The revision of every plan whose medium only says why there is no other."""
PLAIN = "plain"
"""The revision of every plan whose medium has no seed."""


@dataclass(frozen=True)
class Slot:
    """A reserved region of a base file: absolute byte `offset` and `size` in bytes.

    With a `block` its bytes do not follow one another: after so many of them the file has `gap` bytes of its own.
    """

    offset: int
    size: int
    block: int = 0
    gap: int = 0

    def patches(self, content: bytes) -> Iterator[Patch]:
        """The patches that put `content` where the slot begins."""
        step = self.block or max(1, len(content))
        for number, start in enumerate(range(0, len(content), step)):
            yield Patch(self.offset + start + number * self.gap, content[start : start + step])


@dataclass(frozen=True, order=True)
class Patch:
    """Bytes that replace the base's from `offset` on."""

    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """An immutable medium: `size` bytes of the file at `base`, with sorted, disjoint `patches` laid over it.

    `base_digest` is the hex SHA-256 of the base file; `revision` is the seed revision that readers are pinned to.
    The patches with the seed begin at the bytes `seed`; none when there is none.
    """

    base: Path
    base_digest: str
    size: int
    patches: tuple[Patch, ...]
    revision: str
    seed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        end = 0
        for patch in self.patches:
            if patch.offset < end or patch.offset + len(patch.data) > self.size:
                raise ValueError(f"patch at {patch.offset} overlaps another, or lies outside the medium")
            end = patch.offset + len(patch.data)

    @cached_property
    def etag(self) -> str:
        """A strong entity tag: H(base, plan), quoted as HTTP wants it (RFC 9110 section 8.8.3)."""
        digest = hashlib.sha256(f"{self.base_digest} {self.size}".encode())
        for patch in self.patches:
            digest.update(f" {patch.offset} {len(patch.data)} ".encode() + hashlib.sha256(patch.data).digest())
        return f'"{digest.hexdigest()[:40]}"'

    def first_of(self, offset: int, wanted: range) -> int | None:
        """The first byte of the patch that begins at `offset` among the `wanted` bytes of the medium, or None."""
        sizes = {patch.offset: len(patch.data) for patch in self.patches}
        first = max(offset, wanted.start)
        return first if first < min(offset + sizes.get(offset, 0), wanted.stop) else None

    def of_patch(self, offset: int, wanted: range) -> range:
        """Which bytes of the patch that begins at `offset` are among the `wanted` bytes of the medium."""
        size = next((len(patch.data) for patch in self.patches if patch.offset == offset), 0)
        return range(max(0, wanted.start - offset), min(size, wanted.stop - offset))

    def overlay(self, offset: int, data: bytes) -> bytes:
        """`data`, read from the base at `offset`, with the patches laid over it (the same object when none touches)."""
        end = offset + len(data)
        first = max(0, bisect_right(self.patches, offset, key=lambda p: p.offset) - 1)
        result: bytearray | None = None
        for patch in self.patches[first:]:
            if patch.offset >= end:
                break
            low, high = max(offset, patch.offset), min(end, patch.offset + len(patch.data))
            if low < high:
                result = bytearray(data) if result is None else result
                result[low - offset : high - offset] = patch.data[low - patch.offset : high - patch.offset]
        return data if result is None else bytes(result)
