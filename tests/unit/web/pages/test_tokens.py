"""Tokens by a browser: shown once, and revoked."""

from __future__ import annotations

import re

import pytest

from tests.helpers.browser import Browser, logged_in
from tests.helpers.site_fixture import Site


def test_a_token_is_shown_once(here: Site) -> None:
    browser = logged_in(here)
    reply = browser.post("/tokens", name="rack7", role="operator", days="", selector="rack=a, row=b")
    shown = re.findall(rb"provision_[A-Za-z0-9_-]{43}", reply.body)
    assert len(shown) == 1 and reply.headers["cache-control"] == "no-store"
    assert b"rack=a,row=b" in reply.body and b"2026-05-30" in reply.body
    assert shown[0] not in browser.get("/tokens").body
    assert Browser(browser.app).log_in(shown[0].decode()).status == 303


def test_a_token_is_revoked(here: Site) -> None:
    browser = logged_in(here)
    other = logged_in(here, app=browser.app, name="other")
    assert browser.post("/tokens/other/revoke").status == 303
    assert other.get("/hosts").status == 303 and b"other" not in browser.get("/tokens").body
    assert browser.post("/tokens/other/revoke").status == 404


@pytest.mark.parametrize(
    "wrong",
    [{"name": "A"}, {"role": "root"}, {"days": "0"}, {"days": "366"}, {"selector": "rack"}, {"selector": "a b=c"}],
)
def test_a_token_that_cannot_be(here: Site, wrong: dict[str, str]) -> None:
    fields = {"name": "ci", "role": "reader", "days": "30", "selector": "", **wrong}
    reply = logged_in(here).post("/tokens", None, **fields)
    assert reply.status == 422 and len(here.audit("token-created")) == 1
