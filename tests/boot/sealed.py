"""Boots of hosts that get their credentials for their own TPMs alone, with everything asserted that must hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from provision.lab.vm import VM
from tests.boot.drives import Drive
from tests.boot.sealed_site import SealedSite
from tests.boot.site import DOMAIN, PLACES, REALM, Member, needles_of
from tests.boot.wire import Sent
from tests.helpers.boot_matrix import Addressing, Cell, Way

_PATIENCE = 500.0
"""Seconds of silence on a console: the host image is unpacked in them."""


def boot(site: SealedSite, cell: Cell) -> None:
    """Boot the host that a cell is for: it has its addresses, and what only its TPM opens, which no wire has seen."""
    member, vm = site.members[cell.name], site.machine(cell)
    needles = needles_of(site.secrets[member.name])
    with _offered(site, cell), site.guest.capture() as capture, vm:
        _has_its_credentials(site, member, vm)
        _has_its_addresses(member, vm)
        assert _said(site, vm, member, "envelope-opened")["answer"] == "opened"
        if cell.name in site.disks:
            versions = _said(site, vm, member, "identity-stored")["versions"]
            assert versions == " ".join(f"{name}=1" for name in sorted(site.secrets[member.name]))
    sent = Sent.over(capture)
    assert sent.has(b"provision-seed"), "a capture of nothing would prove nothing"
    assert sent.found(needles) == set()
    if cell.name in site.disks:
        stores_ciphertext_alone(site.disks[cell.name], needles)
    if cell.way is Way.PXE:
        # What the firmware's log says, replayed, is what the server has computed from its files.
        explained = site.json("tpm", "explain", member.name)["networks"]
        [network] = [one for one in explained if one["network"] == "guest"]
        assert [(pcr["pcr"], pcr["same"]) for pcr in network["chains"][0]["pcrs"]] == [(4, True), (8, True), (9, True)]


@contextmanager
def _offered(site: SealedSite, cell: Cell) -> Iterator[None]:
    """HTTPS Boot is from a link: the firmware reads its medium where operators are served."""
    if cell.way is not Way.HTTPS:
        yield
        return
    made = site.json("link", cell.name, "--medium", "iso", "--uses", "2")
    assert made["urls"][0].startswith("https://10.77.2.1:8443/b/")
    with site.http_boot_from(made["urls"][0]):
        yield


def _has_its_credentials(site: SealedSite, member: Member, vm: VM) -> None:
    made = site.secrets[member.name]
    mark = hashlib.sha256(made["keytab"]).hexdigest()[:16]
    vm.wait_for(rf"^ +keytab +host/{member.name}\.{DOMAIN}@{REALM}, SHA-256 {mark}", _PATIENCE)
    for name in set(made) - {"keytab", "certificate"}:
        vm.wait_for(rf"^ +credential +{PLACES[name][0]}$", 60)


def _has_its_addresses(member: Member, vm: VM) -> None:
    if member.addressing is Addressing.DHCP:
        vm.wait_for(r" 10\.77\.2\.1\d\d/24", 60)
        return
    vm.wait_for(rf" {member.ipv4}/24", 60)
    if member.addressing in (Addressing.VLAN, Addressing.BOND):
        vm.wait_for(rf"^ +storage\S* +.*{member.storage4}/24", 60)
    if member.addressing is Addressing.IPV6:
        vm.wait_for(rf" {member.ipv6}/64", 60)


def stores_ciphertext_alone(own: Drive, needles: dict[str, bytes]) -> None:
    """The host's disk has its envelope, twice, and nothing of its secrets anywhere."""
    data = own.path.read_bytes()
    stored = own.stored()
    assert stored is not None and stored.content.startswith(b"provision-sealed 1\n")
    assert data.count(b"provision-envelope 1\n") == 2
    assert Sent(data).found(needles) == set()


def _said(site: SealedSite, vm: VM, member: Member, event: str) -> dict[str, Any]:
    """What the host has said of its envelope, or of its disk."""

    def said() -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = site.json("audit", "--host", member.name, "--limit", "200")
        return [entry for entry in entries if entry["event"] == event]

    vm.wait_until(lambda: bool(said()), f"say '{event}'")
    return said()[-1]
