"""The host image enrols its TPM under Secure Boot: once an operator compares the console, once by its certificate."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from provision.demo.site import MAC, MANAGEMENT, DemoSite
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from tests.helpers.small_image import small_image

SETTINGS = '[[listen]]\nnetwork = "mgmt"\ninterface = "mgmt"\n\n[tpm]\nroots = "makers"\n'
VENDOR = Path("/var/lib/swtpm-localca")
"""Whose CA has certified the TPMs of the laboratory."""
_PRINT = r"    ((?:[0-9a-f]{8} ?){4})\s+    ((?:[0-9a-f]{8} ?){4})"


@pytest.mark.long
def test_a_host_enrols_its_tpm_at_boot_and_while_it_runs(lab: Lab) -> None:
    lan = lab.lan("mgmt", MANAGEMENT)
    site = DemoSite(lab, settings=SETTINGS)
    makers = site.state / "makers"
    makers.mkdir()
    site.fill(small_image())
    site.serve()
    site.dhcp()
    site.call("window", "node1", "--minutes", "30", "--boots", "1")
    assert "may be enrolled until" in site.call("enroll", "node1")
    machine = Machine("tpm", Firmware.SECURE_BOOT, (Nic(lan, MAC),), (Device.NETWORK,), 768, tpm=True)
    with VM(lab, machine) as vm:
        vm.wait_for(r"this machine's TPM waits to be accepted: no configured root vouches", 400)
        shown = re.search(r"the fingerprint of this machine's TPM is\s+" + _PRINT, vm.console)
        assert shown is not None
        [waiting] = site.json("tpm", "list")
        assert waiting["fingerprint"] == "".join(shown.groups()).replace(" ", "") and not waiting["enrolled"]
        assert waiting["firmware"].startswith("UEFI, Secure Boot on")
        assert "is enrolled" in site.call("tpm", "accept", "node1", *shown[1].split(), *shown[2].split())
        assert site.json("tpm", "show", "node1")["tpms"][0]["known"].startswith("accepted ")
        vm.wait_for(r"^ +system +running$", 400)
        # Its maker's certificate is known from now on, and the host runs: it hears by itself that it is to enrol.
        site.call("tpm", "remove", "node1")
        for name in ("swtpm-localca-rootca-cert.pem", "issuercert.pem"):
            shutil.copy(VENDOR / name, makers)
        site.call("enroll", "node1", "--minutes", "10")
        vm.wait_for(r"this machine's TPM is enrolled: certificate id:00001014 swtpm", 120)
        found = site.json("tpm", "list")
        assert (found[0]["fingerprint"], found[0]["pcr7"]) == (waiting["fingerprint"], waiting["pcr7"])
        assert site.json("tpm", "show", "node1")["window"] is None
