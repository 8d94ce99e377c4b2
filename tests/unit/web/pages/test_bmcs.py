"""BMCs by the pages: the password goes in, and never out; what goes on with a host is seen on its page."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator

import pytest

from provision.api.operations import Operation
from provision.errors import Denied
from provision.principal import PrincipalRole
from provision.service.operations import Running
from provision.service.selections import Action
from provision.web.pages import selection
from tests.helpers.browser import Browser, logged_in
from tests.helpers.principals import ROOT
from tests.helpers.redfish import PASSWORD, USER, Bmc, certificate, fingerprint, served
from tests.helpers.site_fixture import Site

BMC = "/hosts/node1/bmc"


@pytest.fixture
def bmc() -> Iterator[Bmc]:
    with served("hpe") as there:
        yield there


def fields(bmc: Bmc, **other: str) -> dict[str, str]:
    pin = fingerprint(certificate()[0])
    return {"url": bmc.url, "user": USER, "password": PASSWORD, "fingerprint": pin, "ca": "", "system": "", **other}


def ended(here: Site, begun: Operation) -> None:
    for thread in threading.enumerate():
        if thread.name == f"operation {begun.id}":
            thread.join(60)


def set_up(here: Site, bmc: Bmc) -> Browser:
    browser = logged_in(here)
    assert browser.post(BMC, None, **fields(bmc)).headers["location"] == "/hosts/node1"
    return browser


def test_a_life(here: Site, bmc: Bmc) -> None:
    browser = set_up(here, bmc)
    body = browser.get("/hosts/node1").body.decode()
    assert f"{USER} at {bmc.url}, known by sha256" in body and "Change BMC" in body
    assert b"It can be used." in browser.post(f"{BMC}/check").body
    assert b"The machine is <strong>off</strong>" in browser.get("/hosts/node1/power").body
    seen = selection.fingerprint(Action.ON, ("node1",))
    reply = browser.post("/selection", action="power-on", hosts="node1", seen=seen)
    assert reply.headers["location"] == "/hosts/node1"
    (begun,) = here.service.operations.listing(ROOT)
    ended(here, begun)
    body = browser.get("/hosts/node1").body.decode()
    assert "Last operation: power on" in body and "<li>the machine is on</li>" in body
    assert browser.post(f"{BMC}/remove").status == 303
    assert b"No BMC is set for this host." in browser.get("/hosts/node1").body


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://10.0.0.1"},
        {"url": f"https://root:{PASSWORD}@10.0.0.1"},
        {"user": "a:b"},
        {"fingerprint": "x"},
        {"ca": "no certificate", "fingerprint": ""},
        {"system": "/1"},
        {"password": PASSWORD + "\n2"},
        {"url": "x" * 600},
    ],
)
def test_what_is_wrong_is_said_and_the_form_kept_but_for_the_password(
    here: Site, bmc: Bmc, wrong: dict[str, str]
) -> None:
    reply = logged_in(here).post(BMC, None, **fields(bmc, **wrong))
    body = html.unescape(reply.body.decode())
    assert reply.status == 422 and "Problem:" in body and f'value="{wrong.get("user", USER)}"' in body
    shown = body.replace(f'value="{wrong["url"]}"', "") if "url" in wrong else body  # which somebody typed there
    assert PASSWORD not in shown and here.audit("bmc-set") == []
    assert 'name="password" type="password" required autocomplete="new-password" spellcheck="false">' in body


def test_no_page_shows_the_password(here: Site, bmc: Bmc) -> None:
    browser = set_up(here, bmc)
    for reply in (
        browser.get(BMC),
        browser.get("/hosts/node1"),
        browser.post(f"{BMC}/check"),
        browser.get("/hosts/node1/power"),
        browser.get("/selection?action=power-off&host=node1"),
        browser.get("/audit"),
    ):
        assert reply.status == 200 and PASSWORD.encode() not in reply.body
    bmc.spoils = lambda asked, handler: (401, {}, PASSWORD.encode())
    reply = browser.get("/hosts/node1/power")
    assert reply.status == 503 and b"Way out:" in reply.body and PASSWORD.encode() not in reply.body


def test_operators_use_a_bmc_and_set_none(here: Site, bmc: Bmc) -> None:
    set_up(here, bmc)
    browser = logged_in(here, PrincipalRole.OPERATOR)
    body = browser.get("/hosts/node1").body
    assert b"Check BMC" in body and b"Change BMC" not in body and b"Remove BMC" not in body
    reader = logged_in(here, PrincipalRole.READER)
    assert bmc.url.encode() not in reader.get("/hosts/node1").body
    for path in ("/hosts/node1/power", BMC, "/selection?action=power-on&host=node1"):
        assert reader.get(path).status == 403


def test_what_goes_on_is_followed_and_cancelled(here: Site) -> None:
    def work(running: Running) -> None:
        running.say("it waits")
        running.pause(3600)

    browser, reader = logged_in(here, PrincipalRole.OPERATOR), logged_in(here, PrincipalRole.READER)
    begun = here.service.operations.begin("test", "node1", ROOT, work)
    body = browser.get("/hosts/node1").body
    cancel = b'/operation/cancel" data-while="under-way">'
    assert b"Test: <strong>" in body and cancel in body
    assert f'name="operation" value="{begun.id}"'.encode() in body
    assert b"Test: <strong>" not in reader.get("/hosts/node1").body
    assert browser.post("/hosts/node1/operation/cancel").headers["location"] == "/hosts/node1"
    ended(here, begun)
    body = browser.get("/hosts/node1").body
    assert b"the operation was cancelled" in body and cancel not in body
    assert browser.post("/hosts/node1/operation/cancel").status == 303, "it is over already"


def test_a_page_that_shows_another_operation_cancels_nothing(here: Site) -> None:
    def work(running: Running) -> None:
        running.pause(3600)

    browser = logged_in(here, PrincipalRole.OPERATOR)
    begun = here.service.operations.begin("test", "node1", ROOT, work)
    reply = browser.post("/hosts/node1/operation/cancel", operation="0" * 12)
    assert reply.status == 409 and b"test has begun" in reply.body
    assert "node1" in here.service.operations.running(ROOT)
    assert browser.post("/hosts/node1/operation/cancel", operation=begun.id).status == 303
    ended(here, begun)


def test_why_an_operation_failed_is_said_with_the_way_out(here: Site) -> None:
    def work(running: Running) -> None:
        raise Denied("node1", "may <b>not</b>", "ask somebody", "a-rule")

    ended(here, here.service.operations.begin("test", "node1", ROOT, work))
    body = logged_in(here).get("/hosts/node1").body
    for part in (b"may &lt;b&gt;not&lt;/b&gt;", b"ask somebody", b"<code>a-rule</code>"):
        assert part in body
