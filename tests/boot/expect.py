"""What must be true of a host that has booted: in its own final root, on the wire, and at the server."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from provision.lab.report import File, Report
from provision.lab.vm import Firmware
from provision.seed import BOOT_SERVERS, CA_BUNDLE, HOST_JSON
from tests.boot.neighbour import who_has
from tests.boot.site import CERTIFICATE, DOMAIN, GUESTS_VLAN, PLACES, ROUTE, ROUTE6, STORAGE_VLAN, BootSite, Member
from tests.boot.wire import Sent
from tests.helpers.boot_matrix import Addressing
from tests.helpers.loaders import quoted_by_grub

COMMON = {
    "/etc/hostname",
    "/etc/hosts",
    "/etc/krb5.conf",
    "/etc/machine-id",
    "/etc/provision/ca/1.pem",
    "/etc/systemd/network/10-mgmt.network",
    CA_BUNDLE,
    HOST_JSON,
}
_STATIC = {"/etc/resolv.conf", "/etc/systemd/resolved.conf.d/provision.conf"}
_STORAGE = {"/etc/systemd/network/20-storage.netdev", "/etc/systemd/network/20-storage.network"}
FILES = {
    Addressing.DHCP: set[str](),
    Addressing.STATIC: _STATIC,
    Addressing.IPV6: _STATIC,
    Addressing.VLAN: _STATIC | _STORAGE,
    Addressing.BOND: {
        *_STATIC,
        *_STORAGE,
        "/etc/modprobe.d/provision.conf",
        "/etc/systemd/network/05-mgmt-ports.network",
        "/etc/systemd/network/10-mgmt.netdev",
        "/etc/systemd/network/20-guests.netdev",
        "/etc/systemd/network/20-guests.network",
        "/etc/systemd/network/30-br-guests.netdev",
        "/etc/systemd/network/30-br-guests.network",
    },
}
"""What a host has beside what all have."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def identity(site: BootSite, member: Member, report: Report, sent: Sent) -> None:
    """The host is `member` and nobody else, from exactly the seed that was sent, and nothing of it is left over."""
    revision, files = sent.manifest(member.name)
    assert report["seed"] == revision
    assert report.files == files
    own_files(site, member, report)


def own_files(site: BootSite, member: Member, report: Report) -> None:
    """The host has the name and the files of `member`, with the modes that they are to have, and nothing else."""
    assert report["hostname"] == report["kernel-hostname"] == member.name
    files = report.files
    assert {"0:0"} == {file.owner for file in files.values()}
    made = site.secrets[member.name]
    wanted = {PLACES[name][0]: File(PLACES[name][1], "0:0", digest(data)) for name, data in made.items()}
    assert {path: files[path] for path in wanted} == wanted
    time = {"/etc/systemd/timesyncd.conf.d/provision.conf", BOOT_SERVERS} if member.network == "mgmt" else set()
    assert set(files) == set(wanted) | COMMON | time | FILES[member.addressing]
    assert files[HOST_JSON].mode == "0600"
    assert {f.mode for path, f in files.items() if path not in wanted and path != HOST_JSON} == {"0644"}
    assert files["/etc/hostname"].sha256 == digest(f"{member.name}\n".encode())
    assert files[CA_BUNDLE].sha256 == digest(site.authority)
    if member.addressing is not Addressing.DHCP:
        assert files[CERTIFICATE].mode == "0644", "what is public may be read by all"
        assert report.all("resolv") == [f"search {DOMAIN}", "nameserver 10.77.1.1"]
    assert report["leftover"] == "none"
    assert report["system"] == "running", report.all("failed")
    assert report.all("failed") == []


def arguments(site: BootSite, report: Report, *, syslinux: bool) -> None:
    """Every byte of the command line is what the inventory says and what the loader is known to add; GRUB writes double
    quotes around the whole of an argument, which is the same to the kernel."""
    written = " ".join(site.arguments if syslinux else map(quoted_by_grub, site.arguments))
    # A disk's loader says which of its slots it is.
    added = r"( initrd=\S+( BOOTIF=\S+)?)" if syslinux else r"( provision\.identity=[0-9a-f]{32} provision\.slot=a)?"
    assert re.fullmatch(rf"BOOT_IMAGE=\S+ {re.escape(written)}{added}", report["cmdline"]), report["cmdline"]


def network(site: BootSite, member: Member, report: Report) -> None:
    """Addresses and routes are what the inventory says; it answers for them on the wire, tagged where it must."""
    how, links = member.addressing, report.json("link")
    bond = how is Addressing.BOND
    nic = "mgmt" if bond else next(link["ifname"] for link in links if link.get("address") == member.macs[0])
    wanted = {nic: [f"{member.ipv4}/24"]}
    asked: list[tuple[str, str, int | None]] = [(member.ipv4, "10.77.1.2", None)]
    if how is Addressing.IPV6:
        wanted[nic].append(f"{member.ipv6}/64")
        asked.append((member.ipv6, "fd77:1::2", None))
    if how in (Addressing.VLAN, Addressing.BOND):
        wanted["storage"] = [f"{member.storage4}/24"] + ([f"{member.storage6}/64"] if bond else [])
        asked.append((member.storage4, "10.77.30.2", STORAGE_VLAN))
        _tagged(links, "storage", STORAGE_VLAN, nic)
    routes = _routes(report.json("route"))
    assert routes["default"] == ("10.77.1.1", nic)
    assert how is Addressing.DHCP or routes[ROUTE[0]] == (ROUTE[1], nic)
    if bond:
        _bond(links, member)
        wanted |= {"br-guests": [], "guests": []}
        asked.append((member.storage6, "fd77:30::2", STORAGE_VLAN))
        assert _routes(report.json("route6"))[ROUTE6[0]] == (ROUTE6[1], "storage")
    ports = [link["ifname"] for link in links if link.get("master") == "mgmt"]
    assert {name: sorted(found) for name, found in report.addresses.items()} == wanted | {port: [] for port in ports}
    for address, asker, tag in asked:
        assert who_has(site.mgmt, address, asker, tag) == member.macs[0]


def _routes(routes: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {route["dst"]: (route["gateway"], route["dev"]) for route in routes if "gateway" in route}


def _tagged(links: list[dict[str, Any]], name: str, tag: int, below: str) -> None:
    link = next(link for link in links if link["ifname"] == name)
    assert (link["link"], link["linkinfo"]["info_data"]["id"]) == (below, tag)


def _bond(links: list[dict[str, Any]], member: Member) -> None:
    by_name = {link["ifname"]: link for link in links}
    assert by_name["mgmt"]["linkinfo"]["info_data"]["mode"] == "active-backup"
    ports = {link["linkinfo"]["info_slave_data"]["perm_hwaddr"] for link in links if link.get("master") == "mgmt"}
    assert ports == set(member.macs)
    _tagged(links, "guests", GUESTS_VLAN, "mgmt")
    assert by_name["guests"]["master"] == "br-guests"


def up(site: BootSite, member: Member, report: Report, medium: str) -> None:
    """The host has said that it is up, and the server has closed its window and written everything down."""
    assert report["phone-home"] == "ok"
    status = site.status(member)
    assert (status["stage"], status["medium"]) == ("up", medium) and status["up"]
    entries = site.audit(member)
    released = [e for e in entries if e.get("answer") == "released"]
    assert {e["medium"] for e in released} == {medium}
    assert [e for e in entries if e.get("answer") == "denied"] == []
    ups = [e for e in entries if e["event"] == "up"]
    assert [(e["host"], e["medium"]) for e in ups] == [(member.name, medium)]
    if medium in ("iso", "disk"):
        assert {(e["channel"], e.get("mac"), e["operator"]) for e in released} == {("operator", None, "uid=0")}
        assert status["window"] is None
        return
    assert {(e["channel"], e["mac"]) for e in released} == {("management:mgmt", member.macs[0])}
    parts = ("configuration", "kernel", "initrd", "seed") if medium == "pxe" else ("configuration", "seed")
    assert status["parts"] == dict.fromkeys(parts, 100)
    assert (status["mac"], status["network"]) == (member.macs[0], "mgmt")
    assert (status["window"]["open"], status["window"]["used"]) == (False, 1)


def firmware(report: Report, wanted: Firmware) -> None:
    """The kernel itself says which firmware started it and whether Secure Boot holds."""
    assert report["firmware"] == ("bios" if wanted is Firmware.BIOS else "uefi")
    if wanted is Firmware.SECURE_BOOT:
        assert report["secureboot"] == "secureboot: Secure boot enabled"
        assert report["secureboot-efivar"] == "0600000001"
    else:
        assert "Secure boot enabled" not in report["secureboot"]
        assert not report["secureboot-efivar"].endswith("01")
