"""The probe image takes a sound seed, and nothing but a sound seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.report import Report
from provision.lab.vm import VM, Machine, Nic
from tests.boot import seeds
from tests.boot.web import serve

MAC = "52:54:00:00:00:07"
KEY = "00ff" * 16
Tree = dict[str, tuple[int, bytes]]


def machine(lab: Lab, probe: Image, *parts: bytes, nics: tuple[Nic, ...] = ()) -> Machine:
    """A machine that is given the kernel, the probe's initrd and whatever stands behind that."""
    initrd = lab.directory / "initrd"
    initrd.write_bytes(probe.initrd.read_bytes() + b"".join(parts))
    arguments = " ".join((*probe.kernel_arguments, "probe.poweroff"))
    return Machine("probe", nics=nics, kernel=probe.kernel, initrd=initrd, arguments=arguments)


def test_the_probe_becomes_the_host_of_its_seed(lab: Lab, probe: Image) -> None:
    lan = lab.lan("mgmt", "10.77.1.0/24")
    tree = seeds.files("node7", {"key": KEY, "url": f"http://{lan.address}:8080/up"})
    tree |= seeds.network("mgmt", MAC, "10.77.1.20/24")
    tree |= {"/etc/provision/odd.txt": (0o440, b""), "/etc/resolv.conf": (0o644, b"nameserver 10.77.1.1\n")}
    booted = machine(lab, probe, seeds.seed("node7", tree), nics=(Nic(lan, MAC),))
    with serve(lab.server, str(lan.address), 8080, lab.directory) as server, VM(lab, booted) as vm:
        report = vm.report(90)
        vm.wait_off()
    assert report["hostname"] == report["kernel-hostname"] == "node7"
    assert report["seed"] == "ab" * 32
    assert list(report.addresses.values()) == [["10.77.1.20/24"]]
    assert report["system"] == "running", report.all("failed")
    assert {path: (file.mode, file.sha256) for path, file in report.files.items()} == {
        path: (f"0{mode:o}", hashlib.sha256(data).hexdigest()) for path, (mode, data) in tree.items()
    }
    assert {file.owner for file in report.files.values()} == {"0:0"}
    assert report.all("resolv") == ["nameserver 10.77.1.1"], "a link is replaced, not written through"
    assert report["leftover"] == "none"
    assert report["phone-home"] == "ok"
    assert f'POST /up application/json {{"host": "node7", "key": "{KEY}"}}' in server.seen
    assert "This is node7" in vm.console
    assert seeds.KEYTAB not in vm.console_file.read_bytes() and KEY not in vm.console


def assert_nobody(report: Report) -> None:
    """The host has its NIC, no address on it, no file of any seed, and told nobody."""
    assert list(report.addresses.values()) == [[]] and "UP" not in report.json("link")[1]["flags"]
    assert report["hostname"] == "" and report.files == {}
    assert report["leftover"] == "none" and report["phone-home"] == "absent"


def changed(tree: Tree) -> Tree:
    return tree | {"/etc/krb5.keytab": (0o600, seeds.KEYTAB[:-1] + b"\0")}


def without(tree: Tree) -> Tree:
    return {path: file for path, file in tree.items() if path != "/etc/krb5.keytab"}


def with_another(tree: Tree) -> Tree:
    return tree | {"/etc/ssh/sshd_config": (0o644, b"PermitRootLogin yes\n")}


@pytest.mark.parametrize(
    ("damage", "culprit"),
    [
        (changed, "/etc/krb5.keytab"),
        pytest.param(without, "/etc/krb5.keytab", marks=pytest.mark.long),
        pytest.param(with_another, "/etc/ssh/sshd_config", marks=pytest.mark.long),
    ],
)
def test_a_damaged_seed_configures_no_network(
    lab: Lab, probe: Image, damage: Callable[[Tree], Tree], culprit: str
) -> None:
    lan = lab.lan("mgmt", "10.77.1.0/24")
    tree = seeds.files("node7") | seeds.network("mgmt", MAC, "10.77.1.20/24")
    damaged = seeds.seed("node7", tree, written=damage(tree))
    with lan.capture() as capture, VM(lab, machine(lab, probe, damaged, nics=(Nic(lan, MAC),))) as vm:
        report = vm.report(240)
        vm.wait_off()
    assert f"PROVISION SEED DAMAGED: {culprit}\n" in vm.console
    assert f"provision-seed: DAMAGED: {culprit}; " in vm.console
    assert report["seed"] == f"DAMAGED: {culprit}"
    assert_nobody(report)
    assert capture.frames() == []


def test_a_seed_that_writes_through_a_link_leaves_nothing_behind(lab: Lab, probe: Image) -> None:
    through = {"/etc/resolv.conf/planted": (0o644, b"x")}
    with VM(lab, machine(lab, probe, seeds.seed("node7", seeds.files("node7") | through))) as vm:
        report = vm.report(240)
    assert report["seed"] == "DAMAGED: /etc/resolv.conf/planted"
    assert report["hostname"] == "" and report.files == {}, "what was copied before is gone"


def test_no_seed_configures_no_network(lab: Lab, probe: Image) -> None:
    lan = lab.lan("mgmt", "10.77.1.0/24")
    with VM(lab, machine(lab, probe, bytes(4096), nics=(Nic(lan, MAC),))) as vm:
        report = vm.report(240)
        vm.wait_off()
    assert "PROVISION SEED MISSING\n" in vm.console and "provision-seed: MISSING; " in vm.console
    assert report["seed"] == "MISSING"
    assert_nobody(report)
