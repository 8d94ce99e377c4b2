"""Media by a browser: decided, recorded and sent as by the API."""

from __future__ import annotations

import pytest

from provision.principal import PrincipalRole
from tests.helpers.browser import logged_in
from tests.helpers.site_fixture import CANARY, Site, deny_all


@pytest.mark.parametrize("medium", ["iso", "disk"])
def test_a_medium_is_downloaded(here: Site, medium: str) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    reply = browser.get(f"/hosts/node1/media/{medium}")
    assert reply.status == 200 and CANARY in reply.body
    file = {"iso": "node1.iso", "disk": "node1.img"}[medium]
    assert reply.headers["content-disposition"] == f'attachment; filename="{file}"'
    assert f"Download {file}".encode() in browser.get("/hosts/node1").body
    part = browser.get(f"/hosts/node1/media/{medium}", {"range": "bytes=0-9", "if-range": reply.headers["etag"]})
    assert part.status == 206 and part.body == reply.body[:10]
    released = [entry for entry in here.audit("decision") if entry["answer"] == "released"]
    assert released[0]["operator"] == "token:operator"


def test_policy_decides(here: Site) -> None:
    browser = logged_in(here)
    with deny_all():
        reply = browser.get("/hosts/node1/media/iso")
    assert reply.status == 403 and b"Nothing is released in this test" in reply.body and CANARY not in reply.body


def test_no_other_medium(here: Site) -> None:
    for medium in ("pxe", "seed", "ISO"):
        assert logged_in(here, name=f"t-{medium.lower()}").get(f"/hosts/node1/media/{medium}").status == 404
