"""Enrolment on a LAN: the host image's program in the host's network namespace, `provision serve`, and its commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.lab.lans import Lab, inside
from tests.helpers.enrolment import PROGRAM, Vendor, machine
from tests.helpers.firmware_log import FIRMWARE
from tests.integration.attacks.site import GUEST, MGMT, AttackSite, http, pxe


def test_a_host_enrols_on_its_lan_and_nobody_else_does(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path / "vendor")
    with Lab("e", tmp_path / "lab") as lab, machine(tmp_path / "tpm", vendor) as found:
        site = AttackSite(lab)
        site.server.stop()
        vendor.publish(site.site.state / "makers")
        with (site.site.state / "provision.toml").open("a") as settings:
            settings.write('\n[tpm]\nroots = "makers"\n')
        site.server = site.site.serve()

        def enroll(name: str, server: str = MGMT) -> str:
            with inside(site.attacker if name == "attacker" else site.hosts[name]):
                return found.enroll(url=f"http://{server}")

        with pytest.raises(PROGRAM.Refused, match="node1 has no open enrolment window"):
            enroll("node1")
        site.site.call("enroll", "node1")
        with pytest.raises(PROGRAM.Refused, match="node2 has no open enrolment window"):
            enroll("node2")
        with pytest.raises(PROGRAM.Refused, match=r"has no neighbour entry|No host with the address"):
            enroll("attacker", GUEST)
        config = f"/pxe/{pxe('node1')}"
        assert f"provision.enroll=http://{MGMT}" in http(site.hosts["node1"], MGMT, config).text
        large = json.dumps({"at": 0, "part": "A" * 5000}).encode()
        assert http(site.hosts["node1"], MGMT, "/enroll/log", method="POST", body=large).status == 413
        assert "is enrolled: certificate id:00001014 swtpm" in enroll("node1")
        shown = site.site.json("tpm", "show", "node1")
        assert [(one["fingerprint"], one["firmware"]) for one in shown["tpms"]] == [(found.fingerprint, FIRMWARE)]
        assert "provision.enroll" not in http(site.hosts["node1"], MGMT, config).text
        with pytest.raises(Unavailable, match="one is enrolled already"):
            site.site.call("enroll", "node1")
        assert len(site.audit(event="tpm-refused")) == 3 and len(site.audit(event="tpm-enrolled")) == 1
        site.close()
