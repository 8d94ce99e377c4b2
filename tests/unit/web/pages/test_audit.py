"""The audit log by a browser: searched, and read on the record."""

from __future__ import annotations

import html
import re

import pytest

from provision.principal import PrincipalRole
from provision.web.pages import audit
from tests.helpers.browser import logged_in
from tests.helpers.site_fixture import CANARY, Site


def test_entries_are_found(here: Site) -> None:
    here.window()
    browser = logged_in(here, PrincipalRole.AUDITOR)
    every, of_host, with_word = (
        browser.get(path).body for path in ("/audit", "/audit?host=node2", "/audit?search=WINDOW-")
    )
    assert b"window-opened" in every and b"token-created" in every and CANARY not in every
    assert b"window-opened" not in of_host and b"credential-set" in of_host
    assert b"window-opened" in with_word and b"token-created" not in with_word
    assert {entry["operator"] for entry in here.audit("audit-read")} == {"token:auditor"}


def test_older_entries_are_a_page_further(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(8):
        here.window()
    browser = logged_in(here, PrincipalRole.AUDITOR)
    assert b"Older entries" not in browser.get("/audit").body + browser.get("/audit?search=opened").body
    monkeypatch.setattr(audit, "_SHOWN", 3)
    opened = [str(entry["seq"]) for entry in reversed(here.audit("window-opened"))]
    for query in ("", "search=Window-Opened", "host=node1&search=opened"):
        read, path = list[str](), f"/audit?{query}"
        while path:
            page = browser.get(path).body.decode()
            rows = re.findall(r'<th scope="row">([0-9]+)</th>(.*)</tr>', page)
            assert len(rows) <= 3 and all("opened" in row for _, row in rows if "search" in query)
            read += [number for number, _ in rows]
            assert ("Only entries before number" in page) == ("before=" in path)
            link = re.search(r'href="([^"]*)">Older entries', page)
            path = html.unescape(link[1]) if link else ""
        assert read == sorted(set(read), key=int, reverse=True) and set(opened) <= set(read)
        assert query or read[-1] == "1"


def test_a_search_goes_on_where_it_has_stopped(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = logged_in(here, PrincipalRole.AUDITOR)
    monkeypatch.setattr(audit, "_READ", 3)
    path, steps = "/audit?search=apply", 0
    while True:
        page, steps = browser.get(path).body.decode(), steps + 1
        if "<td>apply</td>" in page:
            break
        assert "<p>3 entries were searched.</p>" in page and "No entries match." in page
        link = re.search(r'href="([^"]*)">Search older entries', page)
        assert link is not None
        path = html.unescape(link[1])
    assert steps > 1


@pytest.mark.parametrize("before", ["x", "-1", "1" * 19])
def test_what_is_no_number(here: Site, before: str) -> None:
    assert logged_in(here, PrincipalRole.AUDITOR).get(f"/audit?before={before}").status in (400, 422)


def test_the_chain_is_checked(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.AUDITOR)
    assert b"The chain is whole" in browser.get("/audit/chain").body


def test_who_sees_some_hosts_names_one(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.AUDITOR, selector={"rack": "a"})
    assert b"Enter a host" in browser.get("/audit").body
    assert b"credential-set" in browser.get("/audit?host=node1").body
    assert "Only entries before" not in browser.get("/audit?before=9").body.decode()
    assert browser.get("/audit?host=node3&before=9").status == 404
    assert browser.get("/audit?host=node3").status == 404 and browser.get("/audit/chain").status == 403
