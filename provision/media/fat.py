"""FAT file systems made without mounting anything, by mtools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from provision import proc

CLOCK = 1_577_836_800
"""2020-01-01T00:00:00Z: the one moment that all media claim to be from, so that the same input gives the same bytes."""

_PACKAGE = "mtools"


def make_fat(image: Path, files: Mapping[str, Path], *, size: int, serial: int, label: str, offset: int = 0) -> None:
    """Format `size` bytes of `image` from byte `offset` on, and copy `files` (path in the file system -> source),
    the first of them to its beginning.

    `serial` is the 32-bit volume serial number. FAT32 from 64 MiB on, else what mtools finds right for the size.
    """
    target = ["-i", f"{image}@@{offset}"]
    # A user's own ~/.mtoolsrc must not change the bytes.
    env = {"SOURCE_DATE_EPOCH": str(CLOCK), "MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1"}
    geometry = ["-T", str(size // 512), "-h", "64", "-s", "32", *(["-F"] if size >= 64 << 20 else [])]
    proc.run(["mformat", *target, *geometry, "-N", f"{serial:08x}", "-v", label, "::"], package=_PACKAGE, env=env)
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents if str(parent) != "."}
    for folder in sorted(folders):
        proc.run(["mmd", *target, f"::{folder}"], package=_PACKAGE, env=env)
    for path, source in files.items():
        proc.run(["mcopy", *target, source, f"::{path}"], package=_PACKAGE, env=env)
