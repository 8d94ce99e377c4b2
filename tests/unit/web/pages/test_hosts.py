"""The pages of hosts."""

from __future__ import annotations

import re

import pytest

from provision.principal import PrincipalRole
from provision.service import overview
from tests.helpers.browser import logged_in
from tests.helpers.site_fixture import CANARY, INVENTORY, Site

MANY = 300


def test_hosts_are_searched_and_filtered(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.READER)
    rows = {
        "/hosts": [b"node1", b"node2", b"node3"],
        "/hosts?search=node2": [b"node2"],
        "/hosts?label=rack&value=a": [b"node1", b"node2"],
        "/hosts?search=52:54:00:00:00:03": [b"node3"],
        "/hosts?search=x": [],
    }
    assert {path: re.findall(rb'href="/hosts/(\w+)"', browser.get(path).body) for path in rows} == rows


def test_hosts_are_paged_with_their_filters(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "PAGE", 1)
    browser = logged_in(here, PrincipalRole.READER)
    body = browser.get("/hosts?label=rack&value=a").body.decode()
    assert "1 to 1 of 2" in body and 'href="/hosts?label=rack&amp;value=a&amp;first=1"' in body
    assert "2 to 2 of 2" in browser.get("/hosts?label=rack&value=a&first=1").body.decode()
    assert browser.get("/hosts?first=x").status == 422 and browser.get("/hosts?first=-1").status == 422


def test_a_host_is_shown_without_its_secrets(here: Site) -> None:
    browser = logged_in(here)
    body = browser.get("/hosts/node1").body
    for part in (b"52:54:00:00:00:01", b"10.0.0.11", b"/etc/token", b"/etc/hostname", b"window-closed", b"rack=a"):
        assert part in body, part
    assert CANARY not in body and b"Open one: &#39;provision window node1&#39;" in body


def test_what_a_host_lacks_is_said(here: Site) -> None:
    here.apply(INVENTORY.replace("    netboot: never\n", "    netboot: never\n    credentials: [token]\n"))
    assert b"<strong>Missing:</strong> its credential" in logged_in(here).get("/hosts/node3").body


def test_a_window_is_opened_and_closed(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    hidden = b'/window/close" data-while="window-open" hidden>'
    assert hidden in browser.get("/hosts/node1").body
    reply = browser.post("/hosts/node1/window", minutes="7", boots="")
    assert (reply.status, reply.headers["location"]) == (303, "/hosts/node1")
    (entry,) = here.audit("window-opened")
    assert (entry["operator"], entry["minutes"], entry["boots"]) == ("token:operator", 7, 1)
    body = browser.get("/hosts/node1").body
    assert b"Open until 2026-03-01 12:07 UTC, 0 of 1 boots used." in body and hidden not in body
    assert browser.post("/hosts/node1/window/close").status == 303
    assert b"No window is open" in browser.get("/hosts/node1").body


@pytest.mark.parametrize("minutes", ["0", "99999", "1e3", "-1", "１", "9" * 30])
def test_a_window_that_cannot_be(here: Site, minutes: str) -> None:
    reply = logged_in(here).post("/hosts/node1/window", minutes=minutes)
    assert reply.status == 422 and here.audit("window-opened") == []


def test_a_host_that_never_boots_is_refused_with_the_way_out(here: Site) -> None:
    reply = logged_in(here).post("/hosts/node3/window")
    assert reply.status == 422 and b"Way out:</strong> set &#39;netboot: window&#39;" in reply.body


def test_a_value_may_be_of_any_label(here: Site) -> None:
    """Whoever fills in a value alone must not select every host."""
    body = logged_in(here).get("/hosts?value=a").body
    assert b"node1" in body and b"node3" not in body and b"hosts that match</label>" in body


def test_a_page_of_many_hosts_has_a_hundred(here: Site) -> None:
    host = '  h{n}: {{interfaces: {{mgmt: {{mac: "52:54:00:01:{a:02x}:{b:02x}", network: mgmt, addressing: dhcp}}}}}}\n'
    here.apply(INVENTORY + "".join(host.format(n=n, a=n >> 8, b=n & 255) for n in range(MANY)))
    body = logged_in(here).get("/hosts?search=h").body
    assert body.count(b'<th scope="row">') == 100 and b"1 to 100 of 300" in body
