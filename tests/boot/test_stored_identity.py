"""A host keeps its identity on its own disk: on which, and what it never touches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.report import Report
from provision.lab.vm import VM, Machine
from provision.media import gpt, identity
from tests.boot import seeds

MIB = 1 << 20
UUID = "4c4c4544-0042-3510-8054-b4c04f4d3107"


@dataclass(frozen=True)
class Drive:
    """A disk of the machine, which is written to: `device` is QEMU's."""

    path: Path
    device: str = "virtio-blk-pci"
    serial: str = "boot-7"

    def arguments(self, number: int) -> tuple[str, ...]:
        serial = f",serial={self.serial}" if self.serial else ""
        drive = f"if=none,id=own{number},format=raw,cache=writethrough,file={self.path}"
        return "-drive", drive, "-device", f"{self.device},drive=own{number}{serial}"

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
        (only,) = gpt.read_table(self.path).partitions
        assert (only.type, only.name) == (identity.TYPE, identity.NAME)
        return only


def drive(lab: Lab, name: str = "own", size: int = 64, device: str = "virtio-blk-pci", serial: str = "boot-7") -> Drive:
    """An empty disk of so many MiB."""
    path = lab.directory / f"{name}.img"
    with path.open("wb") as file:
        file.truncate(size * MIB)
    return Drive(path, device, serial)


def tree(disk: dict[str, object] | None, uuid: str | None = None) -> dict[str, tuple[int, bytes]]:
    """A host's files, whose host.json has lines as the server writes them."""
    about = {"format": 1, "host": "node7", "revision": "ab" * 32, "uuid": uuid, "storage": "persistent"}
    about |= {"disk": disk} if disk else {}
    return seeds.files("node7") | {"/etc/provision/host.json": (0o600, json.dumps(about, indent=2).encode())}


def machine(lab: Lab, probe: Image, drives: Sequence[Drive], seed: bytes = b"", *before: str) -> Machine:
    """A machine with these disks, behind what stands `before` them, that boots the probe, and a seed if it gets one."""
    initrd = lab.directory / "initrd"
    initrd.write_bytes(probe.initrd.read_bytes() + seed)
    arguments = " ".join((*probe.kernel_arguments, "probe.poweroff"))
    own = [argument for number, one in enumerate(drives) for argument in one.arguments(number)]
    return Machine(
        "host", kernel=probe.kernel, initrd=initrd, arguments=arguments, uuid=UUID, extra=(*before, *own), memory=768
    )


def boot(lab: Lab, powered: Machine) -> tuple[Report, str]:
    """Its report, and what it says of its disk."""
    with VM(lab, powered) as vm:
        report = vm.report(240)
        vm.wait_off(60)
        said = [line for line in vm.console.splitlines() if line.startswith("provision-disk: ")]
    return report, "\n".join(said)


def assert_node7(report: Report) -> None:
    """It is node7, from a whole seed, and nothing of the seed stands anywhere else in its root."""
    assert (report["hostname"], report["seed"], report["leftover"]) == ("node7", "ab" * 32, "none")


# virtio is what all the other tests here have.
DRIVES: dict[str, tuple[dict[str, object], dict[str, str], tuple[str, ...]]] = {
    "nvme": ({"serial": "boot-7"}, {"device": "nvme"}, ()),
    "sata": ({"path": "pci0000:00/0000:00:1f.2/ata1"}, {"device": "ide-hd,bus=ide.0", "serial": "WD-1234"}, ()),
    "scsi": (
        {"wwn": "naa.5000c50000001234"},
        {"device": "scsi-hd,wwn=0x5000c50000001234", "serial": ""},
        ("-device", "virtio-scsi-pci"),
    ),
}


@pytest.mark.parametrize("kind", DRIVES)
def test_the_identity_stays_on_the_disk(lab: Lab, probe: Image, kind: str) -> None:
    named, how, before = DRIVES[kind]
    own = drive(lab, device=how.get("device", "virtio-blk-pci"), serial=how.get("serial", "boot-7"))
    report, said = boot(lab, machine(lab, probe, [own], seeds.seed("node7", tree(named)), *before))
    assert_node7(report)
    assert "the identity is stored on " in said
    stored = own.stored()
    assert stored is not None and stored.sequence == 2 and seeds.KEYTAB in stored.content
    report, said = boot(lab, machine(lab, probe, [own], b"", *before))
    assert_node7(report)
    assert "this host has its identity from " in said
    assert own.stored() == stored, "a boot that takes it writes nothing"


def test_a_disk_with_something_else_on_it_is_left_alone(lab: Lab, probe: Image) -> None:
    own = drive(lab)
    own.path.write_bytes(b"a superblock".rjust(1080, b"\0") + bytes(64 * MIB - 1080))
    report, said = boot(lab, machine(lab, probe, [own], seeds.seed("node7", tree({"serial": "boot-7"}))))
    assert_node7(report)
    assert said.endswith("the identity is not stored: vda holds something else; the inventory may allow to wipe it")
    assert b"a superblock" in own.path.read_bytes()[:2048]
    _, said = boot(lab, machine(lab, probe, [own], seeds.seed("node7", tree({"serial": "boot-7", "wipe": True}))))
    assert "vda is wiped, as the inventory says" in said and "the identity is stored on vda" in said
    assert own.stored() is not None


def test_of_two_disks_the_named_one_is_taken_and_a_disk_of_another_machine_is_not(lab: Lab, probe: Image) -> None:
    other, own = drive(lab, "other", 48, serial="boot-6"), drive(lab)
    report, _ = boot(lab, machine(lab, probe, [other, own], seeds.seed("node7", tree({"serial": "boot-7"}, UUID))))
    assert_node7(report)
    assert own.stored() is not None and other.part() is None
    # In another machine, and then without it.
    moved = machine(lab, probe, [own])
    strange = Machine(**{**moved.__dict__, "uuid": UUID.replace("07", "08")})
    report, said = boot(lab, strange)
    assert report["hostname"] == "" and report["seed"] == "MISSING"
    assert f"belongs to the machine with the UUID {UUID}" in said
    report, said = boot(lab, machine(lab, probe, [other]))
    assert report["seed"] == "MISSING" and said == "provision-disk: no disk of this machine holds an identity"
