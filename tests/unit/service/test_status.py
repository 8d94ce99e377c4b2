"""What operators are told of hosts."""

from __future__ import annotations

import logging
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.api.status import Explanation
from provision.media.initrd import ALIVE
from provision.service.service import Service
from provision.settings import Api
from tests.helpers.agent import answer, booted
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, settings, site


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
    here.can(ALIVE)
    assert not any(row.caution for row in here.service.reports.explain("node2", ROOT))


@pytest.mark.parametrize("served", [False, True])
def test_explain_tells_of_links_over_tls_where_they_are_served(tmp_path: Path, served: bool) -> None:
    with site(tmp_path) as here:
        pass
    api = Api(address=IPv4Address("192.0.2.1"), certificate=Path("crt"), key=Path("key")) if served else None
    with closing(Service.open(settings(here.state, api=api), here.clock)) as service:
        rows = service.reports.explain("node1", ROOT)
    assert [row.medium for row in rows if row.by and row.channel == "operator"] == (["iso", "disk"] if served else [])


def test_explain_with_a_window_is_what_policy_would_say_then(here: Site) -> None:
    def answers(rows: list[Explanation]) -> dict[str, str | None]:
        return {str(row.medium): row.rule for row in rows if row.channel == "management:mgmt" and not row.by}

    reports = here.service.reports
    assert answers(reports.explain("node1", ROOT)) == {"pxe": "window-closed", "http-boot": "window-closed"}
    assert answers(reports.explain_with_window("node1", ROOT)) == {"pxe": None, "http-boot": None}
    assert set(answers(reports.explain_with_window("node3", ROOT)).values()) == {"netboot-never"}
    assert here.service.core.store.windows.of("node1") is None, "none was opened"
