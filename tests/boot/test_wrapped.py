"""A host gets its credentials over a general LAN, under Secure Boot by PXE, because its own TPM opens them in the chain
that the server has computed from its files, once it has proved that it has booted in that. What opens nothing is in
tests/integration/tpm/test_delivery.py and test_online.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.demo.site import GUEST, INVENTORY, MAC, PRINCIPAL, DemoSite, foreign_dhcp
from provision.enrolled_tpm import EnrolledTpm, KeyKind
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.service.service import Service
from provision.settings import Settings
from provision.tpm import endorsement, public
from tests.helpers.host_programs import Bus
from tests.helpers.small_image import small_image
from tests.helpers.tpm import software_tpm
from tests.helpers.wrapped_site import TPM, Wrapped

SETTINGS = '[[listen]]\nnetwork = "guest"\ninterface = "guest"\n'
OURS = INVENTORY.replace(
    "network: mgmt, addressing: static, ipv4: 10.77.1.21", "network: guest, addressing: dhcp"
).replace("    labels: {rack: demo}\n", "    labels: {rack: demo}\n    netboot: always\n    tpm: online\n")


def enroll(site: DemoSite, vm: VM, scratch: Path) -> None:
    """Know the machine's TPM as node1's, as a vendor's list would have it."""
    scratch.mkdir()
    (scratch / "state").symlink_to(vm.make_tpm())
    with software_tpm(scratch) as tpm:
        key, attestation = tpm.endorsement_key("rsa"), Wrapped.attestation(TPM.Tpm(Bus(tpm.port).exchange))
    service = Service.open(Settings(state=site.state))
    try:
        mark = endorsement.fingerprint(public.parse(key, "EK"))
        about = attestation, bytes(32), "UEFI, Secure Boot on", service.core.clock(), "uid=0"
        service.core.store.tpms.put(EnrolledTpm("node1", key, KeyKind.RSA, mark, "imported", *about))
        service.core.witness()
    finally:
        service.close()


@pytest.mark.long
def test_credentials_come_over_a_general_lan_for_the_host_s_own_tpm_alone(lab: Lab, tmp_path: Path) -> None:
    lan = lab.lan("guest", GUEST)
    site = DemoSite(lab, OURS, SETTINGS)
    site.fill(small_image())
    machine = Machine("wrapped", Firmware.SECURE_BOOT, (Nic(lan, MAC),), (Device.NETWORK,), 1024, tpm=True)
    vm = VM(lab, machine)
    enroll(site, vm, tmp_path / "tpm")
    site.serve()
    foreign_dhcp(lab, lan)
    canary = b"canary-5be1-of-the-wrapped-boot"
    site.call("credential", "set", "node1", "enrolment", "--file", "-", stdin=canary)
    with lan.capture() as wire, vm:
        vm.wait_for(rf"^ +keytab +{PRINCIPAL}, SHA-256 {site.fingerprints['keytab'][:16]}", 500)
        vm.wait_for(r"^ +credential +/etc/provision/enrolment.token", 60)
        vm.wait_for(r"^ +system +running$", 400)
    assert not wire.contains(canary) and not wire.contains(canary[7:20])
    [opened] = [entry for entry in site.json("audit", "--limit", "500") if entry["event"] == "envelope-opened"]
    assert (opened["host"], opened["answer"]) == ("node1", "opened")
    [proved] = [entry for entry in site.json("audit", "--limit", "500") if entry["event"] == "tpm-proved"]
    explained = site.json("tpm", "explain", "node1")
    assert explained["online"] and explained["proof"] == f"node1 {proved['reason']}"
    assert proved["reason"].startswith("has booted by shim, GRUB and kernel by PXE (PCR 4+7+8+9), in start ")
    # What the firmware's log says, replayed, is what the server has computed from its files.
    [network] = explained["networks"]
    assert [(pcr["pcr"], pcr["same"]) for pcr in network["chains"][0]["pcrs"]] == [(4, True), (8, True), (9, True)]
