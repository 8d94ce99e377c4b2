"""A host that has its identity on its disk boots without a window on any LAN, and no secret goes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from provision.demo.site import GUEST, INVENTORY, MAC, MANAGEMENT, SETTINGS, DemoSite, foreign_dhcp
from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.report import Report
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from tests.boot.drives import Drive, drive
from tests.boot.wire import Sent

OTHER_MAC = "52:54:00:77:00:02"
WITH_DISK = INVENTORY.replace("    labels:", "    disk: {serial: boot-7}\n    labels:") + (
    f'      office: {{mac: "{OTHER_MAC}", network: guest, addressing: static, ipv4: 10.77.2.21}}\n'
)
WAYS = {Firmware.BIOS: ("pxe",), Firmware.UEFI: ("http", "pxe")}
"""How a firmware boots: the first time by the first of them, and then by each."""


class KeptSite(DemoSite):
    """The demonstration's site, whose host has a disk and a NIC on the general network."""

    def __init__(self, lab: Lab, probe: Image) -> None:
        self.mgmt, self.guest = lab.lan("mgmt", MANAGEMENT), lab.lan("guest", GUEST)
        super().__init__(lab, WITH_DISK, SETTINGS)
        self.fill(probe)
        self.service = self.serve()
        self.dhcp()
        foreign_dhcp(lab, self.guest)
        self.own = drive(lab)

    def machine(self, firmware: Firmware, way: str, *, office: bool) -> Machine:
        """The host with its disk, which boots from the office's LAN or from the management LAN."""
        nics = (Nic(self.guest, OTHER_MAC), Nic(self.mgmt, MAC))
        nics = nics if office else nics[::-1]
        own, name = self.own.arguments(0), f"{way}-{'again' if office else 'first'}"
        return Machine(name, firmware, nics, (Device.NETWORK,), 768, http_boot=way == "http", extra=own)

    def row(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.json("status", "node1")["hosts"]
        return rows[0]

    def wait(self, vm: VM, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The host's status as soon as it is `true`."""
        rows = [self.row()]

        def looked() -> bool:
            rows.append(self.row())
            return true(rows[-1])

        vm.wait_until(looked, "come to the status that is waited for")
        return rows[-1]


@pytest.mark.parametrize("firmware", WAYS)
def test_an_identity_that_is_stored_needs_no_window_and_no_management_lan(
    lab: Lab, probe: Image, firmware: Firmware
) -> None:
    site, ways = KeptSite(lab, probe), WAYS[firmware]
    site.call("window", "node1", "--boots", "1")
    with VM(lab, site.machine(firmware, ways[0], office=False)) as vm:
        first = vm.report(240)
        assert "provision-disk: the identity is stored on vda" in vm.console
        row = site.wait(vm, lambda row: row["stored"] is not None)
    assert (row["stage"], row["stored"]["revision"], row["stored"]["current"]) == ("up", first["seed"], True)
    assert row["stored"]["credentials"] == {"keytab": 1, "enrolment": 1}
    stored = site.own.stored()
    assert stored is not None
    canaries = [f.sha256 for path, f in first.files.items() if path in ("/etc/krb5.keytab",)]
    assert canaries == [site.fingerprints["keytab"]]
    assert ["10.77.1.21/24"] in first.addresses.values()
    for way in ways:
        with boots_again(site, way, site.machine(firmware, way, office=True), secrets_of(stored.content)) as (
            vm,
            again,
        ):
            assert again.files == first.files and again["seed"] == first["seed"]
            if way == ways[-1]:
                wiped(site, vm, site.own)


@contextmanager
def boots_again(site: KeptSite, way: str, machine: Machine, secrets: list[bytes]) -> Iterator[tuple[VM, Report]]:
    """What the host says that boots from the office's LAN, which gets no secret of anybody, and without a window."""
    assert len(secrets) == 3
    began = datetime.now(UTC)
    with site.guest.capture() as capture, VM(site.lab, machine) as vm:
        report = vm.report(240)
        assert "provision-disk: this host has its identity from vda1" in vm.console
        row = site.wait(vm, lambda row: row["stage"] == "up" and datetime.fromisoformat(row["started"]) >= began)
        assert (row["network"], row["medium"]) == ("guest", "http-boot" if way == "http" else "pxe")
        sent = Sent.over(capture)
        assert sent.has(b"http-boot" if way == "http" else b"/boot/"), "a capture of nothing would prove nothing"
        assert not any(sent.has(secret) for secret in secrets)
        yield vm, report


def secrets_of(seed: bytes) -> list[bytes]:
    """What of the seed nobody else may know: the keytab's key, the token, the key with which the host signs."""
    at = seed.index(b"\x05\x02\x00\x00")
    token = seed[seed.index(b"enrolment.token\0") + len(b"enrolment.token\0") :].lstrip(b"\0")[:64]
    alive = seed[seed.index(b'"alive"') :]
    return [seed[at + 60 : at + 90], token, alive[alive.index(b'"key": "') + 8 :][:64]]


def wiped(site: KeptSite, vm: VM, own: Drive) -> None:
    """The host wipes its identity when it is told to, and says so."""
    site.call("host", "decommission", "node1")
    site.wait(vm, lambda row: row["stored"] is None)
    part = own.part()
    assert part is not None
    with own.path.open("rb") as file:
        file.seek(part.offset)
        assert not any(file.read(part.size))
    events = [entry["event"] for entry in site.json("audit", "--host", "node1", "--limit", "100")]
    assert {"identity-stored", "decommission-ordered", "identity-wiped"} <= set(events)
    rows = site.json("explain", "node1")
    assert {row.get("rule") for row in rows if row["medium"] == "pxe"} == {"window-closed", "secrets-on-general"}
