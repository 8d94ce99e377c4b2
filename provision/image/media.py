"""The base media that `provision image import` would build of an image, to be compared."""

from __future__ import annotations

from pathlib import Path

from provision.below import discard
from provision.media.base import MEDIA, hash_file
from provision.media.importing import ImportRequest, build, prepare


def media(kernel: Path, initrd: Path, arguments: tuple[str, ...], scratch: Path) -> dict[str, str]:
    """SHA-256 of every base medium by its file's name; they are built in `scratch`, which is not there before or after.

    Raises ImportProblems when boot loaders are missing, Unavailable when a tool is.
    """
    request = ImportRequest("host", kernel, (initrd,), arguments)
    scratch.mkdir()
    try:
        build(request, prepare(request, scratch, _silent), scratch, _silent)
        return {name: hash_file(scratch / name) for name in sorted(MEDIA.values())}
    finally:
        discard(scratch)


def _silent(stage: str, done: float) -> None:
    pass
