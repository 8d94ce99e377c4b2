"""A base image as it lies in the library: its files, their hashes, and its record ``base.json``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from provision.accounts import ROOT_ONLY, Accounts
from provision.below import join
from provision.boot import DiskFormat
from provision.errors import Conflict, Unavailable
from provision.media.fat import CLOCK
from provision.media.layout import IDENTITY, FileEntry, MediumLayout, Progress
from provision.media.plan import Slot

FORMAT = 2
"""The version of a base's contents; part of its id, so it grows whenever media are built differently."""

RECORD = "base.json"
MEDIA = {"iso": "base.iso", "disk": "base.disk", "refusal": "refusal.iso"}
FORMATS = {DiskFormat.QCOW2: "base.qcow2", DiskFormat.RAW_ZST: "base.raw.zst"}
_AGAIN = "import it again"


@dataclass(frozen=True)
class BaseImage:
    """One base: kernel, initrds, default kernel arguments, loader set, and the media built from them.

    `id` is the hex content hash. `loaders` are by the file name that network boot asks for. `signing` is one line:
    whether shim, GRUB and kernel are signed for one another. `features` are the image's own words for what it does
    beyond the contract (docs/media-format.md), `accounts` those of its root. `seed_size` is the room for a seed in
    bytes. `parts` has the bytes of each part by the image's own report, and is empty when it came without one.
    `formats` are the base disk's other formats.
    """

    id: str
    name: str
    kernel_version: str
    kernel_arguments: tuple[str, ...]
    seed_size: int
    directory: Path
    kernel: FileEntry
    initrds: tuple[FileEntry, ...]
    loaders: Mapping[str, FileEntry]
    signing: str
    iso: MediumLayout
    disk: MediumLayout
    refusal: MediumLayout
    features: tuple[str, ...] = ()
    accounts: Accounts = ROOT_ONLY
    parts: Mapping[str, int] = field(default_factory=dict)
    formats: Mapping[DiskFormat, MediumLayout] = field(default_factory=dict)

    def disk_as(self, format_: DiskFormat) -> MediumLayout:
        """The base disk in that format; raises Conflict for a base that was imported before there were such."""
        fact = "was imported before disk images had two slots"
        if IDENTITY in self.disk.slots:
            if format_ is DiskFormat.RAW:
                return self.disk
            if format_ in self.formats:
                return self.formats[format_]
            fact = f"was imported before there were disk images in the format {format_}"
        raise Conflict(f"base image {self.name}", fact, "import it again")

    def files(self) -> Iterator[FileEntry | MediumLayout]:
        """Every file of the base."""
        yield from (self.kernel, *self.initrds, *self.loaders.values())
        yield from (self.iso, self.disk, self.refusal, *self.formats.values())

    def check(self) -> None:
        """Check that every file is there with its size and its time; cheap. Raises Unavailable naming the first."""
        for file in self.files():
            if int(self._status(file).st_mtime) != CLOCK:
                remedy = f"see whether it is whole: 'provision image verify {self.name}'"
                raise Unavailable(self._subject(file), "was changed or copied after its import", remedy)

    def verify(self, progress: Progress = lambda stage, done: None) -> None:
        """Read every file and check its SHA-256. Raises Unavailable naming the first that is not what was imported.

        When all are, they get the time of the import: after this, `check` takes what came back from a backup.
        """
        for file in self.files():
            self._status(file)
        total, done = sum(file.size for file in self.files()), 0
        for file in self.files():
            self.verify_file(file)
            done += file.size
            progress("verifying", done / total)
        for file in self.files():
            self._settle(file)

    def _status(self, file: FileEntry | MediumLayout) -> os.stat_result:
        try:
            status = file.path.stat()
        except OSError as error:
            raise Unavailable(self._subject(file), f"cannot be read ({error.strerror})", _AGAIN) from None
        if status.st_size != file.size:
            raise Unavailable(self._subject(file), f"has {status.st_size} bytes instead of {file.size}", _AGAIN)
        return status

    def _settle(self, file: FileEntry | MediumLayout) -> None:
        if int(self._status(file).st_mtime) == CLOCK:
            return
        try:
            os.utime(file.path, (CLOCK, CLOCK))
        except OSError as error:
            fact = f"is whole, but the time of its import cannot be set ({error.strerror})"
            raise Unavailable(self._subject(file), fact, "check owner and file system") from None

    def verify_file(self, file: FileEntry | MediumLayout) -> None:
        """Read one file of the base and check its SHA-256; raises Unavailable."""
        try:
            digest = hash_file(file.path)
        except OSError as error:
            raise Unavailable(self._subject(file), f"cannot be read ({error.strerror})", _AGAIN) from None
        if digest != file.sha256:
            raise Unavailable(self._subject(file), "is damaged: its SHA-256 does not match", _AGAIN)

    def _subject(self, file: FileEntry | MediumLayout) -> str:
        return f"base image {self.name}: {file.path.relative_to(self.directory)}"


def hash_file(path: Path) -> str:
    """The hex SHA-256 of a file; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(base: BaseImage) -> bytes:
    """The base's record as JSON: paths relative to its directory, so that the state directory can move."""

    def entry(file: FileEntry | MediumLayout) -> dict[str, Any]:
        plain = {"file": str(file.path.relative_to(base.directory)), "size": file.size, "sha256": file.sha256}
        if isinstance(file, FileEntry):
            return plain
        return plain | {"slots": {name: astuple(slot) for name, slot in sorted(file.slots.items())}}

    content = {
        "format": FORMAT,
        "id": base.id,
        "name": base.name,
        "kernel_version": base.kernel_version,
        "kernel_arguments": base.kernel_arguments,
        "seed_size": base.seed_size,
        "signing": base.signing,
        "features": base.features,
        "accounts": {"users": dict(base.accounts.users), "groups": dict(base.accounts.groups)},
        "parts": dict(base.parts),
        "kernel": entry(base.kernel),
        "initrds": [entry(file) for file in base.initrds],
        "loaders": {name: entry(file) for name, file in sorted(base.loaders.items())},
        "media": {name: entry(getattr(base, name)) for name in MEDIA},
        "formats": {name: entry(layout) for name, layout in sorted(base.formats.items())},
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def load(directory: Path) -> BaseImage:
    """The base whose record lies in `directory`; raises Unavailable when there is none that can be read."""

    def entry(of: Mapping[str, Any]) -> FileEntry:
        return FileEntry(join(directory, *of["file"].split("/")), of["size"], of["sha256"])

    def medium(of: Mapping[str, Any]) -> MediumLayout:
        slots = {name: Slot(*place) for name, place in of["slots"].items()}
        return MediumLayout(join(directory, *of["file"].split("/")), of["size"], of["sha256"], slots)

    path = directory / RECORD
    try:
        content = json.loads(path.read_bytes())
        if content["id"] != directory.name:
            raise ValueError("is another base's record")
        return BaseImage(
            id=content["id"],
            name=content["name"],
            kernel_version=content["kernel_version"],
            kernel_arguments=tuple(content["kernel_arguments"]),
            seed_size=content["seed_size"],
            directory=directory,
            kernel=entry(content["kernel"]),
            initrds=tuple(entry(of) for of in content["initrds"]),
            loaders={name: entry(of) for name, of in content["loaders"].items()},
            signing=content["signing"],
            features=tuple(content.get("features", ())),
            accounts=Accounts(**content.get("accounts", {})),
            parts={str(name): int(size) for name, size in content.get("parts", {}).items()},
            **{name: medium(content["media"][name]) for name in MEDIA},
            formats={DiskFormat(name): medium(of) for name, of in content.get("formats", {}).items()},
        )
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "import the base image again") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unavailable(str(path), "is damaged", "import the base image again") from None
