"""Directories that stand for a machine with disks, for programs in shell that look at them in /sys and /dev."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from provision.media import gpt, identity
from provision.media.gpt import Partition, Table
from tests.boot import seeds
from tests.helpers.initramfs import SCRIPTS

FIRST, SECTORS, WHOLE = 2048, 2048, 1 << 16
MACHINE = {"node7": "7" * 32, "node8": "8" * 32}


def seed(host: str) -> bytes:
    """The seed of a host, with its machine-id."""
    return seeds.seed(host, seeds.files(host) | {"/etc/machine-id": (0o644, f"{MACHINE[host]}\n".encode())})


def record(host: str) -> bytes:
    """The first copy of a host's identity."""
    return identity.first(seed(host))


class Devices:
    """`dev` and `sys` below a directory; each disk has one partition, which is a file of its own."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for directory in ("dev", "sys/block", "sys/class/block", "sys/devices"):
            (top / directory).mkdir(parents=True)

    def add(self, disk: str, content: bytes, kind: UUID = identity.TYPE, name: str = identity.NAME) -> Path:
        """A disk, whose serial number is `serial-DISK`, with a partition of this type and name, and this content, which
        begins in the second MiB; that one."""
        whole = self.top / "dev" / disk
        with whole.open("wb") as file:
            file.truncate(WHOLE * gpt.SECTOR)
        gpt.write_table(
            whole, Table(identity.TYPE, (Partition(kind, identity.TYPE, FIRST, FIRST + SECTORS - 1, name),))
        )
        place = self.top / "sys/devices" / disk
        (place / "queue").mkdir(parents=True)
        (place / "queue/logical_block_size").write_text("512\n")
        (place / "device").mkdir()
        for said, text in (("size", WHOLE), ("ro", 0), ("removable", 0), ("serial", f"serial-{disk}")):
            (place / said).write_text(f"{text}\n")
        for directory in ("block", "class/block"):
            (self.top / "sys" / directory / disk).symlink_to(place)
        self.name(disk, 1, name)
        part = self.top / "dev" / f"{disk}1"
        part.write_bytes(content.ljust(SECTORS * gpt.SECTOR, b"\0"))
        return part

    def name(self, disk: str, number: int, name: str) -> None:
        """Let the kernel know a partition of the disk by this number and name."""
        place = self.top / "sys/devices" / disk / f"{disk}{number}"
        place.mkdir()
        for file, text in (("uevent", f"PARTNAME={name}"), ("partition", number), ("size", SECTORS)):
            (place / file).write_text(f"{text}\n")
        (self.top / "sys/class/block" / place.name).symlink_to(place)

    def stored(self, arguments: str = "") -> str:
        """The command by which a script has the initramfs's functions for disks, on this machine, which booted with
        these arguments."""
        script = (SCRIPTS / "stored").read_text()
        (self.top / "cmdline").write_text(f"{arguments}\n")
        (self.top / "table").write_text((SCRIPTS / "table").read_text().replace("/table.", f"{self.top}/table."))
        for there, here in (
            ("/dev/$", f"{self.top}/dev/$"),
            ("/proc/cmdline", f"{self.top}/cmdline"),
            ("sys=/sys", f"sys={self.top}/sys"),
            ("archive=/", f"archive={self.top}/"),
            ("about=/", f"about={self.top}/"),
            (". /table\n", f". {self.top}/table\n"),
            *((f". /{name}\n", f". {SCRIPTS}/{name}\n") for name in ("disks", "identity")),
        ):
            assert there in script
            script = script.replace(there, here)
        (self.top / "stored").write_text(script)
        return f". {self.top}/stored"
