"""A machine whose firmware starts signed images from the two slots of its disk: the disk is a file, its variables are a
directory, and the host's own program works on both."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest

from provision.media import unified_disk, unified_medium
from provision.media.image_slots import Sizes
from tests.helpers.host_programs import load

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


class Firmware:
    """A machine: its disk, its variables, and what it starts."""

    def __init__(
        self, directory: Path, image: Path, version: str, sizes: Sizes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its disk is a factory's, with this image."""
        for name in ("gpt", "efivars", "load_option", "slot_record", "own_disk"):
            load(name)
        self.program, self.directory = load("unified-slots"), directory
        self.path, self.variables = directory / "dev/vda", directory / "efivars"
        for name in ("dev", "efivars", "run", "sys/block/vda/device"):
            (directory / name).mkdir(parents=True)
        unified_disk.build(image, "ab" * 32, version, self.path, sizes)
        own_disk, efivars = load("own_disk"), load("efivars")
        monkeypatch.setattr(own_disk, "DEV", str(directory / "dev"))
        monkeypatch.setattr(own_disk, "SYS", str(directory / "sys"))
        monkeypatch.setattr(own_disk, "WORK", directory / "run")
        monkeypatch.setattr(efivars, "PLACE", str(self.variables))
        monkeypatch.setattr(self.program, "CMDLINE", directory / "cmdline")
        self.set("Boot0000", b"firmware's own")
        self.starts()

    def set(self, name: str, content: bytes, owner: str = GLOBAL) -> None:
        (self.variables / f"{name}-{owner}").write_bytes(struct.pack("<I", 7) + content)

    def get(self, name: str) -> bytes | None:
        path = self.variables / f"{name}-{GLOBAL}"
        return path.read_bytes()[4:] if path.exists() else None

    @property
    def trial(self) -> dict[str, bytes]:
        """The variables by which it is to start a slot once, as far as they are there."""
        found = ((name, self.get(name)) for name in ("Boot00A0", "BootNext"))
        return {name: content for name, content in found if content is not None}

    @property
    def parts(self) -> dict[str, Any]:
        """The slots, in the order of the primary table: its copy may be half written."""
        with self.path.open("rb") as file:
            return {one.name[-1]: one for one in load("gpt").read(file).partitions if "esp" in one.name}

    def content(self, slot: str) -> bytes:
        part = self.parts[slot]
        with self.path.open("rb") as file:
            file.seek(part.first * 512)
            return file.read(part.size)

    def starts(self) -> str:
        """It forgets the option that it is to start next, and starts that, or what comes first on the disk."""
        number, slot = self.get("BootNext"), next(iter(self.parts))
        (self.variables / f"BootNext-{GLOBAL}").unlink(missing_ok=True)
        if number is not None:
            (wanted,) = struct.unpack("<H", number)
            option = self.get(f"Boot{wanted:04X}") or b""
            slot = next(one for one in "ab" if self.parts[one].guid.bytes_le in option)
        version = self.content(slot)[-512:].split()[3].decode()
        self.runs(str(self.parts[slot].guid), version)
        return slot

    def starts_without_trial(self) -> str:
        """The same, when it was started before and has forgotten what was to be next."""
        (self.variables / f"BootNext-{GLOBAL}").unlink(missing_ok=True)
        return self.starts()

    def runs(self, guid: str, version: str) -> None:
        text = f"{guid.upper()}\0".encode("utf-16-le")
        self.set("LoaderDevicePartUUID", text, "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
        (self.directory / "cmdline").write_text(f"panic=10 quiet provision.image={version[:16]}\n")

    def call(self, *arguments: str | Path) -> None:
        self.program.main(list(map(str, arguments)))

    @property
    def state(self) -> dict[str, Any]:
        with self.program.own("rb") as disk:
            found: dict[str, Any] = self.program.state(disk)
        return found

    def slot_file(self, image: bytes) -> Path:
        digest = hashlib.sha256(image).hexdigest()
        target = self.directory / f"{digest}.slot"
        (self.directory / "new").write_bytes(image)
        unified_medium.build_file_system(self.directory / "new", digest, target)
        return target
