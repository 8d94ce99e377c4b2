"""BIOS PXE when the server's HTTP is away for a while: lpxelinux starts over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from provision import proc
from provision.lab.vm import VM, Device, Machine
from tests.boot.site import MEMBERS, BootSite, Member

NO_HTTP = """
table ip away {{
    chain input {{
        type filter hook input priority filter
        ip saddr {address} tcp dport 80 reject with tcp reset
    }}
}}
"""


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
            site.wait_seed(member, vm)
            assert vm.console.count("PXELINUX") >= 2
    assert site.status(member)["window"]["used"] == 1
