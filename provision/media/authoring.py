"""What building any medium needs: its ingredients, and slots whose place is proven by reading bytes back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from provision.errors import Unavailable
from provision.media.layout import FILL
from provision.media.plan import Slot

_BLOCK = 1024 * 1024

KERNEL_PATH = "boot/vmlinuz"
SEED_PATH = "boot/seed.img"
GRUB_PATH = "boot/grub/grub.cfg"
ISOLINUX_PATH = "isolinux/isolinux.cfg"
INFO_PATH = ".disk/info"
"""GRUB's signed CD image looks for this file to know the medium it came from."""


@dataclass(frozen=True)
class Ingredients:
    """What a base's media are made of; `id` is the base's, and every identifier on the media derives from it."""

    id: str
    kernel: Path
    initrds: tuple[Path, ...]
    loaders: Mapping[str, Path]
    seed_size: int

    def boot_files(self) -> dict[str, Path]:
        """Kernel and initrds by their path on a medium."""
        return {KERNEL_PATH: self.kernel} | {f"boot/initrd{i}.img": path for i, path in enumerate(self.initrds)}

    def uuid(self, purpose: str) -> UUID:
        """An identifier that is the same for the same base and purpose (RFC 9562, version 8: by content)."""
        raw = bytearray(hashlib.sha256(f"{self.id} {purpose}".encode()).digest()[:16])
        raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
        return UUID(bytes=bytes(raw))


def reserve(path: Path, name: str, size: int) -> Path:
    """Write the file that stands for a slot while a medium is built: `size` bytes that occur nowhere else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for block in _pattern(name, size):
            file.write(block)
    return path


def claim(image: Path, slots: Mapping[str, Slot]) -> None:
    """Check that every slot holds exactly what `reserve` wrote, in one piece, and give it its fill.

    Raises Unavailable when a slot is elsewhere: the tool that authored the medium did not do what it said.
    """
    with image.open("r+b") as file:
        for name, slot in slots.items():
            file.seek(slot.offset)
            for expected in _pattern(name, slot.size):
                if file.read(len(expected)) != expected:
                    raise Unavailable(image.name, f"the slot '{name}' is not at byte {slot.offset} in one piece")
        for name, slot in slots.items():
            file.seek(slot.offset)
            for start in range(0, slot.size, _BLOCK):
                file.write(FILL[name] * min(_BLOCK, slot.size - start))


def _pattern(name: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, _BLOCK):
        yield hashlib.shake_256(f"provision slot {name} {start}".encode()).digest(min(_BLOCK, size - start))
