"""The demonstration: a host boots on the management LAN with its identity, and gets nothing on the guest LAN."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from provision.demo.site import MAC, PRINCIPAL, DemoSite, foreign_dhcp
from provision.errors import Unavailable
from provision.image.build import Request, build
from provision.image.versions import Versions
from provision.lab import disk
from provision.lab.lans import Lab, Lan
from provision.lab.processes import Patience
from provision.lab.vm import VM, Device, Machine, Nic

Say = Callable[[str], None]
Progress = Callable[[str, float], None]

SILENCE = 300.0
"""Seconds in which a console shows nothing: several times what the longest silence takes on a quiet machine."""
_UP = r"^ +system +(running|degraded)$"


def show(say: Say, progress: Progress) -> None:
    """Run the whole demonstration, saying each step; raises Unavailable when something does not come out as it must.

    Everything happens in network namespaces and a temporary directory, and both are gone at the end.
    """
    say("Building the host image from Debian's packages (from the cache the second time) …")
    image = build(Request(versions=Versions.OBTAINABLE), progress, say)
    with Lab("demo") as lab:
        mgmt, guest = lab.lan("mgmt", "10.77.1.0/24"), lab.lan("guest", "10.77.2.0/24")
        site = DemoSite(lab)
        say("$ provision image import, apply, credential set")
        site.fill(image)
        site.serve()
        site.dhcp()
        foreign_dhcp(lab, guest)
        say("$ provision explain node1")
        say(site.call("explain", "node1"))
        say("$ provision window node1 --minutes 10 --boots 1")
        say(site.call("window", "node1", "--minutes", "10", "--boots", "1"))
        _boot(lab, mgmt, site, say)
        _refuse(lab, guest, say)
        say("It said why, and went on to its disk. The audit log has both decisions:")
        say(site.call("audit", "--host", "node1", "--limit", "8"))
        say(site.call("audit", "--verify"))


def _boot(lab: Lab, mgmt: Lan, site: DemoSite, say: Say) -> None:
    say("Power on: a machine that boots from the network, on the management LAN. Its console:")
    machine = Machine("node1", nics=(Nic(mgmt, MAC),), order=(Device.NETWORK,), firmware_text=True)
    with VM(lab, machine) as vm:
        if not watch(vm, _UP, SILENCE, say):
            say(f"It has shown nothing for {SILENCE / 60:.0f} minutes. The server says:")
            say(site.call("status", "node1"))
            say("Boot loaders can stop for good. Power off and on, with a new window:")
            say(site.call("window", "node1", "--minutes", "10", "--boots", "1"))
            vm.stop()
            vm.start()
            _expect(watch(vm, _UP, SILENCE, say))
        shown = f"keytab       {PRINCIPAL}, SHA-256 {site.fingerprints['keytab'][:16]}"
        if not re.search(r"^    node1$", vm.console, re.MULTILINE) or shown not in vm.console:
            raise Unavailable("demonstration", "the host came up with another identity", "see its console above")
        wait_up(site, vm)
    say("It is node1, a hypervisor, and its keytab has the SHA-256 of the one that was sealed.")
    say("$ provision status node1")
    say(site.call("status", "node1"))


def _refuse(lab: Lab, guest: Lan, say: Say) -> None:
    say("Power on: the same machine, cabled to the guest LAN by mistake. Its console:")
    local = disk.local_disk(lab.directory / "local.img")
    order = (Device.NETWORK, Device.DISK)
    stray = Machine("stray", nics=(Nic(guest, MAC),), disk=local, order=order, firmware_text=True)
    with VM(lab, stray) as vm:
        _expect(watch(vm, re.escape(disk.TEXT), SILENCE, say))
        if "secrets-on-general" not in vm.console:
            raise Unavailable("demonstration", "the machine did not say which rule refused it", "see it above")
    say(f"  │ {disk.TEXT}")


def wait_up(site: DemoSite, vm: VM, medium: str = "pxe") -> None:
    """Wait until the host, booted from `medium`, has said that it is up; raises WaitFailed when its console has shown
    nothing new for SILENCE seconds."""

    def is_up() -> bool:
        row = site.json("status", "node1")["hosts"][0]
        return bool(row["stage"] == "up" and row["medium"] == medium)

    # Asking costs a good part of a processor that the machine may need.
    vm.wait_until(is_up, "say that it is up", SILENCE, pause=3.0)


def watch(vm: VM, until: str, silence: float, say: Say) -> bool:
    """Say the console's lines as they come, until one matches `until`; returns whether one did before the machine was
    off, or had shown nothing new for `silence` seconds."""
    patience, shown = Patience(silence, vm.console_file), 0
    while True:
        text = vm.console
        lines = text.splitlines()
        complete = lines[shown:] if text.endswith("\n") or not vm.running else lines[shown:-1]
        for line in complete:
            if re.search(until, line):
                break
            if line.strip():
                say(f"  │ {line.rstrip()}")
        shown += len(complete)
        if any(re.search(until, line) for line in lines):
            return True
        if not vm.running or patience.ended():
            return False
        time.sleep(0.3)


def _expect(shown: bool) -> None:
    if not shown:
        raise Unavailable("demonstration", "the machine's console did not show what it should", "see it above")
