"""A host boots on the management LAN while the guest LAN is flooded, in less than twice its quiet time."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from provision.demo.site import GUEST, MAC, MANAGEMENT, TOKEN_PATH, DemoSite
from provision.image.build import Image
from provision.lab import report
from provision.lab.lans import Lab, ip
from provision.lab.vm import VM, Device, Machine, Nic
from tests.helpers.paths import FIXTURES

FLOOD = FIXTURES / "flood.py"
SOURCES = [f"10.77.2.{number}" for number in range(100, 125)]


@dataclass(frozen=True)
class Taken:
    """Seconds of one boot: `whole` from power-on to the host's report, `served` from configuration to seed, as the
    server itself has it. Only `served` is the server's; the rest is the emulator's."""

    whole: float
    served: float


def boot(site: DemoSite, machine: Machine) -> Taken:
    """Open a window, power on, wait for the host's report; it must be itself."""
    site.call("window", "node1", "--minutes", "10", "--boots", "1")
    last = site.json("audit", "--limit", "1")[-1]["seq"]
    start = time.monotonic()
    with VM(site.lab, machine) as vm:
        vm.wait_for(rf"^{report.BEGIN}", 400)
        whole = time.monotonic() - start
        booted = vm.report(60)
    assert booted["hostname"] == "node1" and booted.files[TOKEN_PATH].sha256 == site.fingerprints["enrolment"]
    entries = [e for e in site.json("audit", "--host", "node1", "--limit", "100") if e["seq"] > last]
    released = [datetime.fromisoformat(e["time"]) for e in entries if e.get("answer") == "released"]
    assert released, entries
    # The log only counts a configuration like that of a boot a moment ago, so the boot's own record says when it began.
    began = datetime.fromisoformat(site.json("status", "node1")["hosts"][0]["started"])
    return Taken(whole, (released[-1] - began).total_seconds())


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
    quiet = boot(site, machine)
    with guest.capture() as wire, flooded(site, attacker, base):
        loud = boot(site, machine)
    if loud.whole >= 2 * quiet.whole or loud.served >= 2 * quiet.served:
        # The emulator shares the processors with whatever else runs: a second quiet boot shows what that alone costs.
        again = boot(site, machine)
        quiet = Taken(max(quiet.whole, again.whole), max(quiet.served, again.served))
    assert loud.whole < 2 * quiet.whole, (quiet, loud)
    assert loud.served < 2 * quiet.served, (quiet, loud)
    assert not wire.contains(b"provision-seed")
    sys.stdout.write(f"quiet {quiet}, flooded {loud}\n")
