"""Disks of a machine's own, of each kind, on which a host keeps its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.lab.lans import Lab
from provision.media import gpt, identity

MIB = 1 << 20


@dataclass(frozen=True)
class Kind:
    """A disk as QEMU has it: its `device`, behind what stands `before`; and how an inventory has `named` it."""

    device: str
    named: Mapping[str, Any] = field(hash=False)
    serial: str = "boot-7"
    before: tuple[str, ...] = ()


KINDS = {
    "virtio": Kind("virtio-blk-pci", {"serial": "boot-7"}),
    "nvme": Kind("nvme", {"serial": "boot-7"}),
    # A CD of the laboratory is at the first port.
    "sata": Kind("ide-hd,bus=ide.1", {"path": "pci0000:00/0000:00:1f.2/ata2"}, "WD-1234"),
    "scsi": Kind("scsi-hd,wwn=0x5000c50000001234", {"wwn": "naa.5000c50000001234"}, "", ("-device", "virtio-scsi-pci")),
}


@dataclass(frozen=True)
class Drive:
    """A disk that is written to."""

    path: Path
    kind: Kind

    def arguments(self, number: int = 0) -> tuple[str, ...]:
        """What QEMU is told of it."""
        serial = f",serial={self.kind.serial}" if self.kind.serial else ""
        drive = f"if=none,id=own{number},format=raw,cache=writethrough,file={self.path}"
        return (*self.kind.before, "-drive", drive, "-device", f"{self.kind.device},drive=own{number}{serial}")

    def stored(self) -> identity.Copy | None:
        """What is on its configuration partition; None when it has none, or nothing is whole there."""
        part = self.part()
        if part is None:
            return None
        with self.path.open("rb") as file:
            file.seek(part.offset)
            return identity.newest(file.read(part.size))

    def part(self) -> gpt.Partition | None:
        """Its configuration partition."""
        if not any(self.path.open("rb").read(MIB)):
            return None
        (only,) = (one for one in gpt.read_table(self.path).partitions if one.type == identity.TYPE)
        assert only.name == identity.NAME
        return only


def drive(lab: Lab, name: str = "own", size: int = 64, kind: Kind = KINDS["virtio"]) -> Drive:
    """An empty disk of so many MiB."""
    path = lab.directory / f"{name}.img"
    with path.open("wb") as file:
        file.truncate(size * MIB)
    return Drive(path, kind)
