"""A site whose boot application machines ask to enrol their TPMs, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Channel
from provision.settings import Tpm as TpmSettings
from provision.web import boot_app
from provision.web.guard import Guard
from tests.helpers.enrolment import PROGRAM, Machine, Post, Vendor, refusing
from tests.helpers.fakes import FakePins
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import GENERAL, IP, MAC1, MAC2, MANAGEMENT, STRANGER, Site, edge, request

NODE = "node1"
NOW = datetime.now(UTC) + timedelta(hours=1)
"""Certificates that swtpm's CA has just made are good then."""

Change = Callable[[str, dict[str, Any]], dict[str, Any]]
"""What becomes of a body that is sent to a path."""


class Front:
    """The site's boot application as machines reach it."""

    def __init__(self, here: Site) -> None:
        self.here = here
        self.store = here.service.core.store
        here.clock.now = NOW
        self.answers: list[bytes] = []

    def app(self, channel: Channel = MANAGEMENT, off: Sequence[str] = ()) -> Guard:
        """The application on that channel; machines at the addresses `off` do not answer by ARP."""
        macs = {IP[mac]: mac for mac in (MAC1, MAC2, STRANGER)}
        if channel is GENERAL:
            macs = {f"10.1.{address.partition('.')[2].partition('.')[2]}": mac for address, mac in macs.items()}
        listener = replace(edge(channel, macs), pins=FakePins(off=off))
        return boot_app.create(self.here.service.netboot, listener)

    def post(
        self,
        mac: str = MAC1,
        channel: Channel = MANAGEMENT,
        change: Change | None = None,
        off: Sequence[str] = (),
    ) -> Post:
        """How the machine with that MAC asks; `change` has the body first."""
        app = self.app(channel, off)
        peer = IP[mac] if channel is MANAGEMENT else IP[mac].replace("10.0.0.", "10.1.0.")

        def send(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
            data = json.dumps(change(path, body) if change else body).encode()
            assert len(data) <= 4096, "no boot listener takes more"
            answer = request(app, "POST", path, body=data, peer=peer)
            self.answers.append(answer.body)
            return refusing(answer.status, answer.body)

        return send

    def open(self, host: str = NODE) -> None:
        self.here.service.tpms.open(host, 30, ROOT)

    def believe(self, vendor: Vendor) -> None:
        """Let the settings name the vendor's certificates."""
        vendor.publish(self.here.state / "makers")
        core = self.here.service.core
        core.settings = core.settings.model_copy(update={"tpm": TpmSettings(roots=Path("makers"))})

    def refused(self, found: Machine, rule: str, **how: Any) -> str:
        """Require that the machine is refused by this rule, and that this is recorded; returns what it is told."""
        before = len(self.here.audit("tpm-refused"))
        with pytest.raises(PROGRAM.Refused) as refused:
            found.enroll(self.post(**how))
        entries = self.here.audit("tpm-refused")
        assert len(entries) > before and entries[-1]["rule"] == rule, entries[-1:]
        assert json.loads(self.answers[-1])["rule"] == rule
        assert self.store.tpms.get(NODE) is None
        return str(refused.value)
