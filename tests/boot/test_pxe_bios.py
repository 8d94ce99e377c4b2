"""BIOS PXE: lpxelinux takes its configuration, kernel, initrds and the host's seed over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from provision import proc
from provision.lab.vm import VM, Device, Machine
from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite, Member

NO_HTTP = """
table ip away {{
    chain input {{
        type filter hook input priority filter
        ip saddr {address} tcp dport 80 reject with tcp reset
    }}
}}
"""


@pytest.mark.parametrize("name", ["dhcp-pxe-bios", "static-pxe-bios"])
def test_a_host_boots_with_its_own_identity(site: BootSite, name: str) -> None:
    member = MEMBERS[name]
    report = boots.from_network(site, member, "bios")
    mac = member.macs[0].replace(":", "-")
    assert f"BOOTIF=01-{mac}" in report["cmdline"].split()


@contextmanager
def without_http(site: BootSite, member: Member) -> Iterator[None]:
    """The server's HTTP port is closed for the member, and its TFTP is not."""
    nft = ["ip", "netns", "exec", site.lab.server, "nft"]
    proc.run([*nft, "-f", "-"], package="nftables", stdin=NO_HTTP.format(address=member.ipv4).encode())
    try:
        yield
    finally:
        proc.run([*nft, "delete", "table", "ip", "away"], package="nftables")


def test_a_loader_that_cannot_go_on_starts_over_by_itself_and_is_charged_once(site: BootSite) -> None:
    member = MEMBERS["retry"]
    site.open_window(member)
    machine = Machine(
        member.name, nics=member.nics(site.mgmt), order=(Device.NETWORK,), uuid=member.uuid, firmware_text=True
    )
    with ExitStack() as away:
        away.enter_context(without_http(site, member))
        with VM(site.lab, machine) as vm:
            vm.wait_for("Boot failed: press a key to retry, or wait for reset", 120)
            assert site.status(member)["window"]["used"] == 0
            away.close()
            site.wait_seed(member, 120)
            assert vm.console.count("PXELINUX") >= 2
    assert site.status(member)["window"]["used"] == 1
