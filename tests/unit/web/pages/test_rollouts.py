"""The page of the roll-out: begun, followed, paused, gone on with, and taken back; with the API's permissions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.principal import PrincipalRole
from provision.web.pages import rollouts
from tests.helpers.browser import logged_in
from tests.helpers.site_fixture import Site
from tests.unit.service.test_rollouts import NAMES, NEW, boot, having, look, ten_hosts


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with ten_hosts(tmp_path) as opened:
        yield opened


def test_a_rollout_is_begun_and_followed_host_by_host(here: Site) -> None:
    browser = logged_in(here)
    assert b"There is no roll-out." in browser.get("/rollout").body
    order = {"base": NEW, "selector": "rack=a", "percent": "25", "failures": "", "minutes": "30"}
    assert browser.post("/rollout", None, **order).headers["location"] == "/rollout"
    body = browser.get("/rollout").body.decode()
    assert "hosts with rack=a: <strong>running</strong>, 2 pending, 6 not moved yet." in body
    assert 'aria-label="Hosts of the roll-out: 2 pending, 6 not moved yet"' in body
    assert "Start roll-out" not in body and body.count("has not booted yet") == 2
    first, second = sorted(having(here))
    boot(here, first)
    boot(here, second, up=False)
    here.service.rollouts.look()
    body = browser.get("/rollout").body.decode()
    assert "1 pending, 1 up, 6 not moved yet." in body and "<td>configuration 100 %</td>" in body
    assert browser.post("/rollout", None, **order).status == 409, "there is one at a time"


def test_it_is_paused_and_goes_on_and_stops_when_hosts_fail(here: Site) -> None:
    browser = logged_in(here)
    browser.post("/rollout", base=NEW, selector="rack=a", minutes="5")
    assert browser.post("/rollout/pause").status == 303 and browser.post("/rollout/pause").status == 409
    assert b"<strong>paused</strong>" in browser.get("/rollout").body
    assert browser.post("/rollout/continue").status == 303
    (name,) = having(here)
    boot(here, name, up=False)
    here.clock.advance(minutes=6)
    assert look(here).state == "stopped"
    body = browser.get("/rollout").body.decode()
    assert "more than 0 of its hosts did not come up" in body and "1 failed" in body
    assert '/rollout/pause" data-while="running" hidden>' in body
    assert '/rollout/continue" data-while="halted">' in body


def test_it_is_taken_back_after_a_question(here: Site) -> None:
    browser = logged_in(here)
    browser.post("/rollout", base=NEW, percent="100")
    for name in NAMES:
        boot(here, name)
    assert look(here).state == "done"
    assert "Write <code>base: other</code>" in browser.get("/rollout").body.decode()
    assert b"10 hosts get the base image of the inventory again" in browser.get("/rollout/rollback").body
    assert having(here) == set(NAMES), "asking changes nothing"
    assert browser.post("/rollout/rollback", seen="another").status == 412 and having(here)
    seen = browser.look("/rollout/rollback")
    body = browser.post("/rollout/rollback", seen=seen).body.decode()
    assert "10 hosts have the base image" in body and ", ".join(NAMES) in body
    assert having(here) == set() and browser.get("/rollout/rollback").status == 404


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("base", "nothing", 404),
        ("base", "<b>", 422),
        ("selector", "rack", 422),
        ("selector", "rack=a,row=b", 422),
        ("selector", "rack=x", 409),
        ("percent", "0", 422),
        ("percent", "101", 422),
        ("minutes", "1e3", 422),
        ("failures", "-1", 422),
    ],
)
def test_what_cannot_be_rolled_out(here: Site, field: str, value: str, status: int) -> None:
    browser = logged_in(here)
    reply = browser.post("/rollout", None, **{"base": NEW, field: value})
    assert reply.status == status and b"<b>" not in reply.body
    assert b"There is no roll-out." in browser.get("/rollout").body


def test_who_sees_some_hosts_only_or_may_not_change_it_does_not(here: Site) -> None:
    reader = logged_in(here, PrincipalRole.OPERATOR)
    assert b"Start roll-out" not in reader.get("/rollout").body
    assert reader.post("/rollout", base=NEW).status == 403
    some = logged_in(here, PrincipalRole.ADMIN, name="some", selector={"rack": "a"})
    assert some.get("/rollout").status == 403 and some.post("/rollout", base=NEW).status == 403
    assert b'href="/rollout"' not in some.get("/hosts").body


def test_of_many_hosts_the_page_says_how_many_more(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "MOST_SHOWN", 3)
    browser = logged_in(here)
    browser.post("/rollout", base=NEW, percent="100")
    body = browser.get("/rollout").body.decode()
    assert body.count("has not booted yet") == 3 and "And 7 more." in body
