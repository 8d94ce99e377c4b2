"""What operators are told of hosts."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from provision.media.initrd import ALIVE
from tests.helpers.agent import answer, booted
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site


def test_it_is_told_to_the_journal_and_shown(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    booted(here)
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            answer(here, "seed")
    told = [record.getMessage() for record in caplog.records if "ALERT host-is-up: node2:" in record.getMessage()]
    assert len(told) == 1
    row = here.service.reports.status(ROOT, "node2").hosts[0]
    assert [(alert.event, alert.count) for alert in row.alerts] == [("host-is-up", 20)]
    assert row.heard == here.clock.now.isoformat()
    denied = [entry for entry in here.audit("decision") if entry.get("rule") == "host-is-up"]
    assert denied and denied[0]["host"] == "node2"
    here.clock.advance(hours=25)
    assert here.service.reports.status(ROOT, "node2").hosts[0].alerts == ()


def test_explain_names_an_image_without_the_agent(here: Site) -> None:
    rows = here.service.reports.explain("node2", ROOT)
    marked = {(row.medium, row.channel) for row in rows if row.caution}
    assert marked == {("pxe", "management:mgmt"), ("http-boot", "management:mgmt")}
    here.service.core._bases[here.base.id] = replace(here.base, features=(ALIVE,))
    assert not any(row.caution for row in here.service.reports.explain("node2", ROOT))
