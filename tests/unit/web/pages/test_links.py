"""Links by a browser: shown once, and revoked."""

from __future__ import annotations

import re

import pytest

from provision.principal import PrincipalRole
from tests.helpers.browser import logged_in
from tests.helpers.links import make
from tests.helpers.site_fixture import Site

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
