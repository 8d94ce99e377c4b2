"""A host keeps its identity on its own disk: on which, and what it never touches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.report import Report
from provision.lab.vm import VM, Machine, Nic
from tests.boot import seeds
from tests.boot.drives import KINDS, MIB, Drive, drive

MAC = "52:54:00:00:00:07"
UUID = "4c4c4544-0042-3510-8054-b4c04f4d3107"


def tree(disk: Mapping[str, object] | None, uuid: str | None = None) -> dict[str, tuple[int, bytes]]:
    """A host's files, whose host.json has lines as the server writes them."""
    about = {"format": 1, "host": "node7", "revision": "ab" * 32, "uuid": uuid, "storage": "persistent"}
    about |= {"disk": dict(disk)} if disk else {}
    # Without a NIC that comes up a host waits for its network.
    own = seeds.files("node7") | seeds.network("mgmt", MAC, "10.77.1.20/24")
    return own | {"/etc/provision/host.json": (0o600, json.dumps(about, indent=2).encode())}


def machine(lab: Lab, probe: Image, drives: Sequence[Drive], seed: bytes = b"") -> Machine:
    """A machine with these disks that boots the probe, and a seed if it gets one."""
    initrd = lab.directory / "initrd"
    initrd.write_bytes(probe.initrd.read_bytes() + seed)
    arguments = " ".join((*probe.kernel_arguments, "probe.poweroff"))
    own = [argument for number, one in enumerate(drives) for argument in one.arguments(number)]
    started = Machine("host", kernel=probe.kernel, initrd=initrd, arguments=arguments, uuid=UUID, extra=tuple(own))
    return replace(started, nics=(Nic(None, MAC),), memory=768)


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


def test_the_identity_stays_on_the_disk(lab: Lab, probe: Image) -> None:
    """On a SCSI disk, whose driver turns up behind another. How others are named is in the boot matrix."""
    kind = KINDS["scsi"]
    own = drive(lab, kind=kind)
    report, said = boot(lab, machine(lab, probe, [own], seeds.seed("node7", tree(kind.named))))
    assert_node7(report)
    assert "the identity is stored on " in said
    stored = own.stored()
    assert stored is not None and stored.sequence == 2 and seeds.KEYTAB in stored.content
    report, said = boot(lab, machine(lab, probe, [own]))
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
    other, own = drive(lab, "other", 48, replace(KINDS["virtio"], serial="boot-6")), drive(lab)
    report, _ = boot(lab, machine(lab, probe, [other, own], seeds.seed("node7", tree({"serial": "boot-7"}, UUID))))
    assert_node7(report)
    assert own.stored() is not None and other.part() is None
    # In another machine, and then without it.
    moved = machine(lab, probe, [own])
    strange = replace(moved, uuid=UUID.replace("07", "08"))
    report, said = boot(lab, strange)
    assert report["hostname"] == "" and report["seed"] == "MISSING"
    assert f"belongs to the machine with the UUID {UUID}" in said
    report, said = boot(lab, machine(lab, probe, [other]))
    assert report["seed"] == "MISSING" and said == "provision-disk: no disk of this machine holds an identity"
