"""What enrolling a TPM and opening an envelope take of a boot: in seconds from power-on to "system running".

Real machine kinds: UEFI with Secure Boot, PXE, shim, GRUB, and a TPM that swtpm plays; all of it emulated, one machine
at a time. First the host enrols its TPM, on its management LAN; then it gets its credentials on a general LAN, for this
TPM alone. "Ours" is the time between systemd's own lines on the console at the start and the end of the unit: for its
program to start, for the server and the TPM. What it waits for the network before that, as every host does that is to
say that it is up, is not in it. "Peer" is the whole boot. swtpm makes keys in milliseconds; TPMs of hardware take
longer, seconds for an RSA key, of which either program makes one.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

from bench.common import Row, note, paired, table
from provision.demo.site import GUEST, INVENTORY, MAC, MANAGEMENT, SETTINGS, DemoSite, foreign_dhcp
from provision.image.build import Image, Request, build
from provision.image.versions import Versions
from provision.lab.lans import Lab, Lan
from provision.lab.vm import VM, Device, Firmware, Machine, Nic

ROUNDS, MEMORY = 3, 1024
ENROLMENT, OPENING = "provision-enroll", "provision-secrets"
_SILENCE, _NETWORK = 500.0, "Reached target network-online"
_UP = r"^ +system +(running|degraded)$"
# systemd says on the kernel's log when it starts units, with the kernel's time; the console shows all of that.
_ARGUMENTS = "ignore_loglevel, systemd.log_target=kmsg, printk.devkmsg=on"
_MANAGED = INVENTORY.replace("    labels:", f"    kernel_arguments: [{_ARGUMENTS}]\n    labels:")
_GENERAL = _MANAGED.replace(
    "network: mgmt, addressing: static, ipv4: 10.77.1.21", "network: guest, addressing: dhcp"
).replace("    labels:", "    netboot: always\n    labels:")


def seconds(console: str, unit: str) -> float:
    """How long a unit ran in a boot, by the kernel's clock, from when the network was there. Raises SystemExit when it
    did not do its work."""
    at: dict[str, float] = {}
    lines = rf"^\[ *([0-9]+\.[0-9]+)\] systemd\[1\]: (?:(Starting|Finished) {unit}\.service|{_NETWORK})"
    for found in re.finditer(lines, console, re.MULTILINE):
        # The last start counts: systemd says so, too, of one that its condition then skips.
        if "Finished" not in at:
            at[found[2] or _NETWORK] = float(found[1])
    if not {"Starting", "Finished"} <= at.keys():
        raise SystemExit(f"{unit} is not seen on the console from its start to its end")
    return at["Finished"] - max(at["Starting"], at.get(_NETWORK, 0.0))


class Ground:
    """A site whose host enrols its TPM on one LAN, and opens its envelope on another."""

    def __init__(self, lab: Lab, image: Image) -> None:
        self.lab, self.mgmt, self.guest = lab, lab.lan("mgmt", MANAGEMENT), lab.lan("guest", GUEST)
        self.site = DemoSite(lab, _MANAGED, SETTINGS)
        self.site.fill(image)
        self.site.serve()
        self.site.dhcp()
        foreign_dhcp(lab, self.guest)

    def enrolment(self) -> tuple[float, float]:
        """Seconds of (enrolling, the boot). The TPM waits to be accepted afterwards, or is known already."""
        self.site.call("window", "node1", "--minutes", "60", "--boots", "1")
        self.site.call("enroll", "node1", "--minutes", "60")
        return self._boot(self.mgmt, ENROLMENT, r"this machine's TPM (waits to be accepted|is enrolled)")

    def accept(self) -> None:
        """Believe the TPM, and move the host to the general LAN."""
        [waiting] = self.site.json("tpm", "list")
        self.site.call("tpm", "accept", "node1", waiting["fingerprint"])
        self.site.inventory.write_text(_GENERAL)
        self.site.call("apply", self.site.inventory)

    def opening(self) -> tuple[float, float]:
        """Seconds of (opening the envelope, the boot)."""
        return self._boot(self.guest, OPENING, r"^ +keytab +host/")

    def _boot(self, lan: Lan, unit: str, proof: str) -> tuple[float, float]:
        machine = Machine("node1", Firmware.SECURE_BOOT, (Nic(lan, MAC),), (Device.NETWORK,), MEMORY, tpm=True)
        with VM(self.lab, machine) as vm:
            start = time.monotonic()
            vm.wait_for(_UP, _SILENCE)
            whole = time.monotonic() - start
            vm.wait_for(proof, _SILENCE)
            return seconds(vm.console, unit), whole


def main(rounds: int = ROUNDS) -> list[Row]:
    """Measure, print the table, return its rows."""
    image = build(Request(versions=Versions.OBTAINABLE), say=note)
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as temporary, Lab("tpm", Path(temporary)) as lab:
        ground = Ground(lab, image)
        enrolled = [ground.enrolment() for _ in range(rounds)]
        ground.accept()
        opened = [ground.opening() for _ in range(rounds)]
    rows = [
        paired("enrolling the TPM / power-on to up", "s", "<= 0.1", enrolled),
        paired("opening the envelope / power-on to up", "s", "<= 0.1", opened),
    ]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
