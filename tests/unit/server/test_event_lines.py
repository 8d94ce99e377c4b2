"""Every event is one line of the service's log, and nothing that a machine says makes it two."""

from __future__ import annotations

import logging

import pytest

from provision.boot import Medium
from provision.server.event_lines import EventLines
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, MAC3, STRANGER, Site, leaks, origin, secret_forms


@pytest.fixture
def lines(here: Site, caplog: pytest.LogCaptureFixture) -> EventLines:
    caplog.set_level(logging.INFO, logger="provision.events")
    return EventLines(here.service.core)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "provision.events"]


def test_each_event_is_a_line(here: Site, lines: EventLines, caplog: pytest.LogCaptureFixture) -> None:
    lines.work()
    assert said(caplog) == [], "what was before is in the audit log"
    here.window()
    here.service.netboot.grub_config(origin(MAC3))
    here.service.netboot.grub_config(origin(STRANGER))
    here.service.media.plan("node1", Medium.ISO, ROOT)
    lines.work()
    lines.work()
    assert [line.split(" ")[0] for line in said(caplog)] == ["window-opened", "denied", "unknown-machine"]
    assert "host=node1 minutes=60 boots=1" in said(caplog)[0] and "rule=netboot-never" in said(caplog)[1]


def test_no_secret_and_no_second_line(here: Site, lines: EventLines, caplog: pytest.LogCaptureFixture) -> None:
    here.secret("node1", CANARY + b" and more")
    here.service.compromises.declare("node1", ROOT)
    here.service.core.note("stuck", None, host="node1", reason="a\nhost-compromised host=node2\x1b[2J")
    lines.work()
    assert [line.split(" ")[0] for line in said(caplog)] == ["credential-set", "host-compromised", "stuck"]
    assert all(line.isprintable() and line.isascii() for line in said(caplog))
    assert leaks(secret_forms(here), *said(caplog)) == []
