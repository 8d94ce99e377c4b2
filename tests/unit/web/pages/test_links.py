"""Links by a browser: shown once, and revoked."""

from __future__ import annotations

import re

import pytest

from provision.principal import PrincipalRole
from tests.helpers.browser import logged_in
from tests.helpers.links import make, take
from tests.helpers.site_fixture import CANARY, Site, charged, origin

_URL = re.compile(rb"http://10\.0\.0\.1/b/[0-9a-z]{26}\.iso")


def test_a_link_is_shown_once(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    reply = browser.post("/hosts/node1/links", medium="iso", minutes="20", uses="2", address="10.0.0.201")
    (url,) = _URL.findall(reply.body)
    assert reply.headers["cache-control"] == "no-store" and b"For 2 uses by 10.0.0.201" in reply.body
    page = browser.get("/hosts/node1").body
    assert url not in page and b"iso for 10.0.0.201" in page
    assert here.audit("link-made")[0]["operator"] == "token:operator"


def test_a_link_is_revoked(here: Site) -> None:
    browser, made = logged_in(here, PrincipalRole.OPERATOR), make(here)
    path = f"/hosts/node1/links/{made.id}/revoke"
    assert path.encode() in browser.get("/hosts/node1").body
    assert browser.post(path).headers["location"] == "/hosts/node1"
    assert path.encode() not in (page := browser.get("/hosts/node1").body) and b"<td>revoked</td>" in page
    assert browser.post("/hosts/node1/links/000000000000/revoke").status == 404
    assert browser.post("/hosts/node1/links/x/revoke").status == 422


def test_what_was_read_by_a_link_is_shown_while_it_is_read(here: Site) -> None:
    """Of a medium that cannot be looked into only the seed is known."""
    browser, made = logged_in(here, PrincipalRole.READER), make(here, uses=2)
    assert b"By link" not in browser.get("/hosts/node1").body
    taken, slot = take(here, made), here.base.iso.slots["seed"]
    taken.seen(0, slot.offset)
    body = browser.get("/hosts/node1").body.decode()
    percent = 100 * slot.offset // here.base.iso.size
    assert f"By link {made.id}, {percent} % of its ISO has been read." in body and f"<td>{percent} %</td>" in body
    assert "Boot: configuration under way, kernel not yet" in body
    taken.seen(slot.offset, slot.offset + slot.size // 2)
    assert "initrd done, seed under way, up not yet" in browser.get("/hosts/node1").body.decode()
    here.clock.advance(seconds=1)
    here.secret("node1", CANARY + b" another")
    assert b"By link" not in browser.get("/hosts/node1").body, "it was another medium"


def test_a_boot_that_the_server_sees_is_shown_before_an_older_link(here: Site) -> None:
    browser, made = logged_in(here, PrincipalRole.READER), make(here)
    take(here, made).seen(0, here.base.iso.size)
    here.clock.advance(seconds=1)
    here.window()
    charged(here.service.netboot.seed(origin(), None))
    body = browser.get("/hosts/node1").body
    assert b"By link" not in body and b"<td>100 %</td>" in body


def test_a_form_that_is_sent_twice_makes_one_link(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    found = re.search(rb'name="once" value="([0-9a-f]+)"', browser.get("/hosts/node1").body)
    assert found
    fields = {"medium": "iso", "once": found[1].decode()}
    statuses = [browser.post("/hosts/node1/links", None, **fields).status for _ in range(2)]
    assert statuses == [200, 409] and len(here.audit("link-made")) == 1


def test_a_link_of_a_host_that_is_not_seen(here: Site) -> None:
    browser, made = logged_in(here, PrincipalRole.OPERATOR, selector={"rack": "b"}), make(here)
    assert browser.post("/hosts/node1/links", medium="iso").status == 404
    assert browser.post(f"/hosts/node1/links/{made.id}/revoke").status == 404
    assert here.audit("link-revoked") == []


@pytest.mark.parametrize(
    "wrong", [{"medium": "pxe"}, {"minutes": "0"}, {"uses": "x"}, {"address": "a b"}, {"medium": ""}]
)
def test_a_link_that_cannot_be(here: Site, wrong: dict[str, str]) -> None:
    fields = {"medium": "iso", **wrong}
    reply = logged_in(here).post("/hosts/node1/links", None, **fields)
    assert reply.status == 422 and here.audit("link-made") == []
