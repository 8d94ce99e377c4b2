"""A host boots on the management LAN while the guest LAN is flooded."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provision.demo.site import GUEST, MAC, MANAGEMENT, TOKEN_PATH, DemoSite
from provision.image.build import Image
from provision.lab.lans import Lab, ip
from provision.lab.vm import VM, Device, Machine, Nic
from tests.helpers.paths import FIXTURES

FLOOD = FIXTURES / "flood.py"
SOURCES = [f"10.77.2.{number}" for number in range(100, 125)]


@contextmanager
def flooded(site: DemoSite, attacker: str, base: str) -> Iterator[None]:
    """1,000 stalled connections and 200 MiB of headers on the guest listener; both are still there at the end."""
    argv: list[str | Path] = [sys.executable, FLOOD, "10.77.2.1", f"/boot/{base}/kernel", *SOURCES]
    process = site.lab.spawn(attacker, argv, log="flood.log")
    try:
        process.wait_for("^1000 connections", 60)
        yield
        process.wait_for("200 MiB of headers", 60)
        assert process.running
        standing = [int(line.split()[0]) for line in process.text.splitlines() if line.endswith("of headers")]
        assert statistics.median(standing) >= 900, standing
    finally:
        process.stop()


def test_a_flood_on_the_guest_lan_does_not_hold_up_a_boot(lab: Lab, probe: Image) -> None:
    mgmt, guest = lab.lan("mgmt", MANAGEMENT), lab.lan("guest", GUEST)
    site = DemoSite(lab)
    site.fill(probe)
    site.serve()
    site.dhcp()
    attacker = guest.host("attacker", "10.77.2.66/24")
    for source in SOURCES:
        ip(attacker, "addr", "add", f"{source}/24", "dev", "eth0")
    machine = Machine("node1", nics=(Nic(mgmt, MAC),), order=(Device.NETWORK,))
    base = str(site.json("image", "list")[0]["id"])
    site.call("window", "node1", "--minutes", "10", "--boots", "1")
    with guest.capture() as wire, flooded(site, attacker, base), VM(site.lab, machine) as vm:
        booted = vm.report()
    assert booted["hostname"] == "node1" and booted.files[TOKEN_PATH].sha256 == site.fingerprints["enrolment"]
    denied = [e for e in site.json("audit", "--host", "node1", "--limit", "100") if e.get("answer") == "denied"]
    assert not denied, "nothing of its boot was refused"
    assert not wire.contains(b"provision-seed")
