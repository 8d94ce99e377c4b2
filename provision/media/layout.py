"""What a base's media look like from outside: files, and the slots that a host's own bytes go to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.errors import Invalid
from provision.media.plan import Plan, Slot

Progress = Callable[[str, float], None]
"""Called with the name of the stage and the part of the whole that is done, 0..1."""

SEED = "seed"
IDENTITY = "identity"
"""The seed as the configuration partition of a disk has it."""
ISOLINUX = "isolinux.cfg"
GRUB = "grub.cfg"

CONFIG_SIZE = 16 * 1024
"""Bytes reserved on each medium for each boot loader's configuration."""

FILL = {SEED: b"\0", IDENTITY: b"\0", ISOLINUX: b"\n", GRUB: b"\n"}
"""What an unpatched slot holds: the kernel skips zeros between archives, boot loaders skip empty lines."""

_SEEDS = (SEED, IDENTITY)


@dataclass(frozen=True)
class FileEntry:
    """A file of a base: where it is, its size in bytes and its hex SHA-256."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class MediumLayout:
    """A base medium: the file, its size in bytes, its hex SHA-256, and its slots by name."""

    path: Path
    size: int
    sha256: str
    slots: Mapping[str, Slot]


def medium_plan(layout: MediumLayout, contents: Mapping[str, bytes], revision: str) -> Plan:
    """The plan that lays `contents` (by slot name, one for every slot) over the base medium.

    What follows a content in its slot is the base's own fill: zeros after the seed, newlines after a configuration.
    Raises Invalid when a content does not fit its slot, ValueError when the names are not exactly the slots'.
    """
    if contents.keys() != layout.slots.keys():
        raise ValueError(f"contents {sorted(contents)} for the slots {sorted(layout.slots)}")
    for name, content in contents.items():
        size = layout.slots[name].size
        if len(content) > size:
            remedy = "import the base again and grow it with --seed-size" if name in _SEEDS else "shorten it"
            raise Invalid(name, f"is {len(content)} bytes, and the medium has room for {size}", remedy)
    patches = sorted(patch for name, content in contents.items() for patch in layout.slots[name].patches(content))
    seed = tuple(
        patch.offset for name in _SEEDS if name in contents for patch in layout.slots[name].patches(contents[name])
    )
    return Plan(layout.path, layout.sha256, layout.size, tuple(patches), revision, seed)
