"""The base disk compressed with Zstandard (RFC 8878): what is smallest on the way to a factory.

The file is a row of frames, which `zstd -d` joins. What no host changes is compressed once, when the base is imported;
each slot is a frame that holds its bytes as they are, in blocks behind headers of three bytes. So a host's bytes go
into a file that stays as long as it was, and nothing is compressed for a host.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from provision import proc
from provision.media.plan import Slot

_FRAME = b"\x28\xb5\x2f\xfd"
# A window of 128 KiB, no checksum, and no size: what a frame needs at least (section 3.1.1.1).
_DESCRIPTOR = bytes((0x00, 7 << 3))
_BLOCK = 128 * 1024
_BLOCK_HEADER = 3
_LAST, _RAW = 1, 0
_TIMEOUT = 3600.0
_COPY = 1024 * 1024


def build_raw_zst(disk: Path, slots: Mapping[str, Slot], target: Path, scratch: Path) -> dict[str, Slot]:
    """Write the raw image at `disk` to `target` in frames, and return where its slots are there.

    `scratch` is an existing directory for parts.
    """
    moved: dict[str, Slot] = {}
    at = 0
    with disk.open("rb") as source, target.open("wb") as file:
        for name, slot in sorted(slots.items(), key=lambda item: item[1].offset):
            _compress(source, range(at, slot.offset), file, scratch)
            moved[name] = _store(source, slot, file)
            at = slot.offset + slot.size
        _compress(source, range(at, disk.stat().st_size), file, scratch)
    return moved


def _compress(source: BinaryIO, part: range, target: BinaryIO, scratch: Path) -> None:
    if not part:
        return
    plain, packed = scratch / "part", scratch / "part.zst"
    source.seek(part.start)
    with plain.open("wb") as file:
        left = len(part)
        while left and (piece := source.read(min(_COPY, left))):
            file.write(piece)
            left -= len(piece)
    # Kernel and initrds are compressed already; a higher level takes long for nothing. One thread: the same bytes.
    proc.run(["zstd", "-q", "-6", "-T1", "--no-check", "-f", plain, "-o", packed], package="zstd", timeout=_TIMEOUT)
    with packed.open("rb") as file:
        shutil.copyfileobj(file, target, _COPY)
    plain.unlink()
    packed.unlink()


def _store(source: BinaryIO, slot: Slot, target: BinaryIO) -> Slot:
    target.write(_FRAME + _DESCRIPTOR)
    first = target.tell() + _BLOCK_HEADER
    source.seek(slot.offset)
    for start in range(0, slot.size, _BLOCK):
        size = min(_BLOCK, slot.size - start)
        last = _LAST if start + size == slot.size else 0
        target.write((last | _RAW << 1 | size << 3).to_bytes(_BLOCK_HEADER, "little") + source.read(size))
    return Slot(first, slot.size, _BLOCK, _BLOCK_HEADER)
