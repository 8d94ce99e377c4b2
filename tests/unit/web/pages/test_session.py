"""The cookie: one, of the right form, and from nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from provision.principal import PrincipalRole
from provision.web.pages.session import COOKIE, cookie_of
from tests.helpers.browser import HOST, PEER, logged_in, pages_of, token
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, request

GOOD = b"A" * 43


def scope(*cookies: bytes) -> dict[str, Any]:
    return {"headers": [(b"cookie", cookie) for cookie in cookies]}


@pytest.mark.parametrize(
    "cookies",
    [
        [b"__Host-provision=" + GOOD],
        [b"a=b; __Host-provision=" + GOOD],
        [b"a=b", b"__Host-provision=" + GOOD + b"; c=d"],
    ],
)
def test_it_is_found(cookies: list[bytes]) -> None:
    assert cookie_of(scope(*cookies)) == GOOD


@pytest.mark.parametrize(
    "cookies",
    [
        [],
        [b"provision=" + GOOD],
        [b"__host-provision=" + GOOD],
        [b"__Host-provision=" + GOOD + b"; __Host-provision=" + GOOD],
        [b"__Host-provision=" + GOOD, b"__Host-provision=" + GOOD],
        [b'__Host-provision="' + GOOD + b'"'],
        [b"__Host-provision=" + GOOD[1:]],
    ],
)
def test_nothing_else_is(cookies: list[bytes]) -> None:
    assert cookie_of(scope(*cookies)) is None


def test_a_browser_is_told_to_guard_it(here: Site) -> None:
    browser = logged_in(here)
    again = browser.log_in(token(here, "other"))
    assert again.headers["set-cookie"].startswith(f"{COOKIE}=")
    assert again.headers["set-cookie"].endswith("; Path=/; Secure; HttpOnly; SameSite=Strict")
    assert again.headers["location"] == "/hosts"


def test_a_token_is_no_session(here: Site) -> None:
    app, shown = pages_of(here), token(here)
    for headers in ({"authorization": f"Bearer {shown}"}, {"cookie": f"{COOKIE}={shown}"}):
        reply = request(app, "GET", "/hosts", headers={"host": HOST, **headers}, peer=PEER)
        assert (reply.status, reply.headers["location"]) == (303, "/login") and b"node1" not in reply.body


def test_a_session_ends_with_its_token_at_once(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    assert browser.get("/hosts/node1").status == 200
    here.service.tokens.revoke("operator", ROOT)
    for path in ("/hosts/node1", "/hosts/node1/media/iso", "/events"):
        assert browser.get(path).headers["location"] == "/login"
    assert browser.post("/hosts/node1/window").headers["location"] == "/login"


def test_logging_out(here: Site) -> None:
    browser = logged_in(here)
    assert browser.post("/logout", key="0" * 64).status == 403
    assert browser.get("/hosts").status == 200
    reply = browser.post("/logout")
    assert "Max-Age=0" in reply.headers["set-cookie"] and reply.headers["location"] == "/login"
    assert browser.get("/hosts").headers["location"] == "/login"
