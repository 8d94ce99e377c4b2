"""Who is not to boot from the network reads why on its console and goes on to its own disk; no secret is sent."""

from __future__ import annotations

import re

import pytest

from provision import proc
from provision.lab import disk
from provision.lab.lans import Lan
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from tests.boot import boots, expect
from tests.boot.site import DOMAIN, MEMBERS, BootSite, Member
from tests.boot.wire import Sent

RAW = "the phone-home key, raw"


def turned_away(site: BootSite, machine: Machine, lan: Lan, rule: str) -> Sent:
    """Boot a machine that has a disk; it must name the rule and go on to the disk. Returns what crossed the LAN."""
    with lan.capture() as capture, VM(site.lab, machine) as vm:
        vm.wait_for(rf"\(rule: {rule}\)", boots.TIMEOUT)
        vm.wait_for(disk.TEXT, 60)
        assert vm.console.index(rule) < vm.console.index(disk.TEXT)
    sent = Sent.over(capture)
    assert sent.has(rule.encode()), "a capture that has not even the refusal would prove nothing"
    return sent


def console(site: BootSite, machine: Machine) -> str:
    """What a machine that is off by now had shown."""
    return VM(site.lab, machine).console


def machine(site: BootSite, name: str, firmware: Firmware, nics: tuple[Nic, ...], **more: bool | str) -> Machine:
    """A machine that boots from the network and else from a disk that says so."""
    path = site.lab.directory / "disk.img"
    if not path.exists():
        disk.local_disk(path)
    text = firmware is Firmware.BIOS
    order = (Device.NETWORK, Device.DISK)
    return Machine(name, firmware, nics, order, 640, disk=path, firmware_text=text, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "firmware", "medium"),
    [
        ("wrong-lan-bios", Firmware.BIOS, "pxe"),
        ("wrong-lan-uefi", Firmware.SECURE_BOOT, "pxe"),
        ("wrong-lan-http", Firmware.UEFI, "http-boot"),
    ],
)
def test_on_the_wrong_network(site: BootSite, name: str, firmware: Firmware, medium: str) -> None:
    """The site's own DHCP server points at ours, and the host's window is open: the network alone is wrong."""
    member, http_boot = MEMBERS[name], medium == "http-boot"
    site.open_window(member)
    wrong = machine(site, f"{name}-wrong", firmware, member.nics(site.guest), http_boot=http_boot)
    refused = turned_away(site, wrong, site.guest, "secrets-on-general")
    assert site.denials(member) == {("secrets-on-general", medium, "general:guest")}
    assert site.status(member)["window"]["used"] == 0
    # The same machine with its cable in the right LAN: what was not to be found there is found here by the same search.
    right = Machine(f"{name}-right", firmware, member.nics(site.mgmt), (Device.NETWORK,), 1024, http_boot=http_boot)
    with site.mgmt.capture() as capture, VM(site.lab, right) as vm:
        site.wait_seed(member, vm, boots.TIMEOUT)
    allowed = Sent.over(capture)
    needles = site.needles(member, allowed.phone_home_key())
    assert allowed.found(needles) == set(needles) - {RAW}, "the key crosses the wire in hex only"
    assert refused.found(needles) == set()


@pytest.mark.parametrize(("name", "firmware"), [("closed", Firmware.BIOS), ("closed-uefi", Firmware.UEFI)])
def test_with_its_window_closed(site: BootSite, name: str, firmware: Firmware) -> None:
    member = MEMBERS[name]
    sent = turned_away(site, machine(site, name, firmware, member.nics(site.mgmt)), site.mgmt, "window-closed")
    assert sent.found(site.needles(member)) == set()
    assert site.denials(member) == {("window-closed", "pxe", "management:mgmt")}
    assert site.status(member)["stage"] == "nothing"


@pytest.mark.parametrize(
    ("number", "firmware", "http_boot"),
    [(1, Firmware.BIOS, False), (2, Firmware.SECURE_BOOT, False), (3, Firmware.SECURE_BOOT, True)],
)
def test_an_unknown_machine_is_listed(site: BootSite, number: int, firmware: Firmware, http_boot: bool) -> None:
    """With the UUID that it shows in its own setup screen, whichever boot loader tells it; by HTTP Boot none tells us,
    and so it is on the console."""
    mac, uuid = f"52:54:00:99:99:{number:02x}", f"4c4c4544-0042-3510-8054-b4c04f4d31{number:02x}"
    nics = (Nic(site.mgmt, mac),)
    stranger = machine(site, f"stranger{number}", firmware, nics, uuid=uuid, http_boot=http_boot)
    turned_away(site, stranger, site.mgmt, "unknown-host")
    seen = [(u["mac"], u["uuid"], u["network"]) for u in site.json("status")["unknown"]]
    assert (mac, None if http_boot else uuid, "mgmt") in seen
    assert not http_boot or f"This machine's UUID is {uuid}." in console(site, stranger)


def fetch(namespace: str, url: str) -> tuple[int, bytes]:
    """Status and body of one request from a plain host, as curl has them (0 for a TFTP transfer that succeeded)."""
    argv = ["ip", "netns", "exec", namespace, "curl", "-s", "-m", "20", "-w", "\n%{http_code}", url]
    done = proc.run(argv, package="curl", ok=range(256))
    body, _, code = done.stdout.rpartition(b"\n")
    return int(code) or done.returncode, body


def test_with_another_hosts_mac_in_its_path(site: BootSite) -> None:
    """A known host with an open window of its own claims to be one that may boot as well: it stays who it is."""
    victim, impostor = MEMBERS["victim"], MEMBERS["impostor"]
    site.open_window(victim)
    site.open_window(impostor)
    thief = site.mgmt.host("thief", "10.77.1.199/24", mac=impostor.macs[0])
    claim = f"pxelinux.cfg/01-{victim.macs[0].replace(':', '-')}"
    seen = []
    with site.mgmt.capture() as capture:
        for url in (f"http://10.77.1.1/pxe/{claim}", f"tftp://10.77.1.1/{claim}"):
            status, body = fetch(thief, url)
            assert status in (200, 0) and b"(rule: foreign-mac)" in body and b"LOCALBOOT" in body
            seen.append(body)
        _, mine = fetch(thief, f"http://10.77.1.1/pxe/pxelinux.cfg/01-{impostor.macs[0].replace(':', '-')}")
        seed = re.search(rb"http://[^,\s]+/seed\.cpio", mine)
        assert seed is not None
        status, body = fetch(thief, seed[0].decode())
    assert status == 200 and f"host/{impostor.name}.{DOMAIN}".split("/")[1].encode() in body
    sent = Sent.over(capture)
    own = site.needles(impostor)
    assert sent.found(own) == set(own), "its own seed it may have, and the search finds it"
    assert sent.found(site.needles(victim)) == set()
    assert site.denials(victim) == {("foreign-mac", "pxe", "management:mgmt")}
    assert site.status(victim)["window"]["used"] == 0


def test_who_has_no_secret_may_boot_on_a_general_network(site: BootSite) -> None:
    """Nothing secret is in its image, so there is nothing to keep from that network; not even a key to phone home."""
    member: Member = MEMBERS["no-secret"]
    site.open_window(member)
    booting = Machine(member.name, Firmware.BIOS, member.nics(site.guest), (Device.NETWORK,), 640)
    with site.guest.capture() as capture, VM(site.lab, booting) as vm:
        report = vm.report(boots.TIMEOUT)
    sent = Sent.over(capture)
    expect.identity(site, member, report, sent)
    assert [a.startswith("10.77.2.") for found in report.addresses.values() for a in found] == [True]
    assert report["phone-home"] == "absent" and not sent.has(b"phone_home")
    status = site.status(member)
    assert (status["stage"], status["network"], status["window"]["used"]) == ("seed", "guest", 1)
    assert site.denials(member) == set()
