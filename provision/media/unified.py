"""The signed unified kernel images of a state directory, one for each base image: the same for all hosts."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from provision.below import discard
from provision.boot import DiskFormat, Kind, Medium
from provision.errors import Unavailable
from provision.media import uki, unified_disk, unified_medium
from provision.media.base import BaseImage, hash_file
from provision.media.layout import FileEntry
from provision.media.qcow2 import build_qcow2
from provision.media.raw_zst import build_raw_zst
from provision.writing import replacing, unwritable, write

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
"""Where systemd's stub is (Debian: systemd-boot-efi)."""
_FORMAT = 1
_ON_TRIAL = ("panic=10", "systemd.watchdog_sec=60")
_PIECE = 1 << 20
ISO = Kind(Medium.ISO)


@dataclass(frozen=True)
class UnifiedImage:
    """A signed image: of which base, signed with which certificate (SHA-256), with which site archive (SHA-256) and
    command line in it."""

    base: str
    file: FileEntry
    certificate: str
    site: str
    command_line: str


def command_line(base: BaseImage, arguments: Sequence[str]) -> tuple[str, ...]:
    """The kernel's arguments in the image of a base, for a site with these.

    It may run on trial, from a slot of a disk: then neither a panic nor a hang must keep the host from its next start.
    The last one says which image it is, whatever there is beside it.
    """
    return (*_ON_TRIAL, *base.kernel_arguments, *arguments, f"provision.image={base.id[:16]}")


def build(base: BaseImage, site_archive: bytes, arguments: Sequence[str]) -> bytes:
    """The image of a base, not signed yet: the same bytes every time.

    Raises Unavailable without a stub, and when a file of the base cannot be read.
    """
    try:
        stub = STUB.read_bytes()
    except OSError as error:
        raise Unavailable(str(STUB), f"cannot be read ({error.strerror})", "apt-get install systemd-boot-efi") from None
    try:
        kernel, *initrds = (entry.path.read_bytes() for entry in (base.kernel, *base.initrds))
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
        raise Unavailable(f"base image {base.name}", fact, "import it again") from None
    release = f"ID=provision\nVERSION_ID={base.id[:16]}\nPRETTY_NAME=provision\n"
    sections = {
        ".linux": kernel,
        ".osrel": release.encode(),
        ".cmdline": " ".join(arguments).encode(),
        # Every initrd is padded to 512 bytes, as an import has them.
        ".initrd": b"".join((*initrds, site_archive)),
    }
    return uki.build(stub, sections)


class UnifiedImages:
    """The images in ``<state>/unified/``. Firmware checks what is in them, so that their records are for people."""

    def __init__(self, state: Path) -> None:
        self._directory, self._scratch = state / "unified", state / "tmp"
        self._media: dict[Path, FileEntry] = {}
        self._building = Lock()

    def put(self, base: str, image: bytes, certificate: str, site: str, command_line: str) -> UnifiedImage:
        """Keep the signed image of a base in place of an earlier one. Raises Unavailable."""
        digest = hashlib.sha256(image).hexdigest()
        path, about = self._directory / f"{base}-{digest[:16]}.efi", self._directory / f"{base}.json"
        record = {
            "format": _FORMAT,
            "file": path.name,
            "size": len(image),
            "sha256": digest,
            "certificate": certificate,
            "site": site,
            "command_line": command_line,
        }
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            with self._building:
                with replacing(path) as descriptor, open(descriptor, "wb", closefd=False) as file:
                    file.write(image)
                # From here on this image counts: whoever is killed before leaves the earlier one as it was.
                write(about, json.dumps(record, indent=1).encode() + b"\n")
                self._forget_files(base, path.name)
        except OSError as error:
            raise unwritable(path, error) from None
        found = self.get(base)
        assert found is not None  # noqa: S101  (just written)
        return found

    def medium(self, image: UnifiedImage, kind: Kind = ISO) -> FileEntry:
        """The image as an ISO or a disk, which is built when it is asked for first. Raises Unavailable."""
        return self._kept(image, kind.suffix, lambda scratch: _made(image, kind, scratch))

    def slot(self, image: UnifiedImage) -> FileEntry:
        """What a slot of a disk has of the image, from its first byte on: a file system, which is built when it is
        asked for first. Raises Unavailable."""
        return self._kept(image, "slot", lambda scratch: _file_system(image, scratch))

    def _kept(self, image: UnifiedImage, suffix: str, make: Callable[[Path], Path]) -> FileEntry:
        path = self._directory / f"{image.base}-{image.file.sha256[:16]}.{suffix}"
        with self._building:
            known = self._media.get(path)
            if known is not None and path.exists():
                return known
            try:
                with tempfile.TemporaryDirectory(prefix="unified-", dir=self._scratch) as place:
                    made = make(Path(place))
                    entry = FileEntry(path, made.stat().st_size, hash_file(made))
                    with (
                        made.open("rb") as source,
                        replacing(path) as descriptor,
                        open(descriptor, "wb", closefd=False) as target,
                    ):
                        _copy_sparse(source, target, entry.size)
            except OSError as error:
                raise unwritable(path, error) from None
            self._media[path] = entry
            return entry

    def get(self, base: str) -> UnifiedImage | None:
        """The image of a base; None when there is none, or its two files are not of one another."""
        # Whoever signs it again in this moment deletes the file of a record that was read before.
        return self._found(base) or self._found(base)

    def _found(self, base: str) -> UnifiedImage | None:
        try:
            record = json.loads((self._directory / f"{base}.json").read_bytes())
            # Earlier versions had one file, which was replaced before the record.
            path = self._directory / Path(str(record.get("file", f"{base}.efi"))).name
            entry = FileEntry(path, int(record["size"]), str(record["sha256"]))
            about = (str(record[name]) for name in ("certificate", "site", "command_line"))
            return UnifiedImage(base, entry, *about) if path.stat().st_size == entry.size else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def remove(self, base: str) -> None:
        """Forget the image of a base, if there is one."""
        discard(self._directory / f"{base}.json")
        self._forget_files(base)

    def _forget_files(self, base: str, but: str = "") -> None:
        """Delete the images of a base and the media made of them, also what killed processes left of these."""
        for pattern in (f"{base}.efi", f"{base}-*", f".{base}-*", f".{base}.*"):
            for path in self._directory.glob(pattern):
                if path.name != but:
                    discard(path)


def _made(image: UnifiedImage, kind: Kind, scratch: Path) -> Path:
    """The medium, built in `scratch`."""
    source, digest = image.file.path, image.file.sha256
    made, disk = scratch / "made", scratch / "disk"
    if kind.medium is Medium.ISO:
        unified_medium.build(source, digest, made, scratch)
        return made
    unified_disk.build(source, digest, image.base, disk)
    if kind.format is DiskFormat.RAW:
        return disk
    if kind.format is DiskFormat.QCOW2:
        build_qcow2(disk, {}, made)
    else:
        build_raw_zst(disk, {}, made, scratch)
    return made


def _file_system(image: UnifiedImage, scratch: Path) -> Path:
    made = scratch / "made"
    unified_medium.build_file_system(image.file.path, image.file.sha256, made)
    return made


def _copy_sparse(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy what is not zero: an empty slot takes no room."""
    while piece := source.read(_PIECE):
        if piece != bytes(len(piece)):
            target.write(piece)
        else:
            target.seek(len(piece), os.SEEK_CUR)
    target.truncate(size)
