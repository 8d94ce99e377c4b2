"""Logging in: by a good token only, as often as tokens are tried, and with nothing said of hosts before."""

from __future__ import annotations

import re

from provision.service.guesses import AT_ONCE as TRIES
from provision.web.pages.headers import POLICY
from tests.helpers.browser import Browser, pages_of, token
from tests.helpers.site_fixture import Site


def test_a_wrong_token(here: Site) -> None:
    browser = Browser(pages_of(here))
    for shown in ("", "x", "provision_" + "A" * 43, token(here) + "x", "é"):
        reply = browser.post("/login", token=shown)
        assert reply.status == 401 and b"This token is not valid" in reply.body and "set-cookie" not in reply.headers
        assert shown == "" or shown.encode() not in reply.body or shown == "x"


def test_trying_is_slowed_down(here: Site) -> None:
    browser = Browser(pages_of(here))
    replies = [browser.post("/login", token="x") for _ in range(TRIES + 1)]
    assert [reply.status for reply in replies] == [401] * TRIES + [429]
    assert int(replies[-1].headers["retry-after"]) <= 61
    assert browser.post("/login", token=token(here)).status == 303


def test_the_form_says_nothing_of_any_host(here: Site) -> None:
    browser = Browser(pages_of(here))
    reply = browser.get("/login")
    assert reply.status == 200 and b"node" not in reply.body and b"<nav" not in reply.body


def test_static_files_are_kept_and_their_names_change_with_them(here: Site) -> None:
    browser = Browser(pages_of(here))
    found = set(re.findall(rb'"(/static/[^"]+)"', browser.get("/login").body))
    assert len(found) == 3
    for path in found:
        reply = browser.get(path.decode())
        assert reply.status == 200 and "immutable" in reply.headers["cache-control"]
        assert re.search(rb"\.[0-9a-f]{16}\.(css|js|svg)$", path)
    for path in ("/static/style.css", "/static/", "/static/../hosts", "/static/..%2fhosts", "/static/login.html.j2"):
        assert browser.get(path).status == 404, path


def test_every_answer_says_what_a_browser_may_do(here: Site) -> None:
    browser = Browser(pages_of(here))
    for path in ("/login", "/hosts", "/static/x", "/nothing"):
        headers = browser.get(path).headers
        assert headers["content-security-policy"] == POLICY and headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer" and headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def test_templates_have_no_script_or_style_of_their_own(here: Site) -> None:
    body = Browser(pages_of(here)).get("/login").body
    assert not re.search(rb"<script(?! src)|<style|style=|\son\w+=|javascript:|https?://", body)
