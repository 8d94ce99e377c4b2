"""The audit log by a browser: searched, and read on the record."""

from __future__ import annotations

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


def test_what_is_left_out_is_said(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = logged_in(here, PrincipalRole.AUDITOR)
    assert b"The newest" not in browser.get("/audit").body + browser.get("/audit?search=a").body
    monkeypatch.setattr(audit, "_SHOWN", 2)
    every = browser.get("/audit").body
    assert b"<p>The newest 2 are shown: search for" in every and every.count(b'<th scope="row">') == 2
    all_of_it = browser.get("/audit?search=token-created").body
    assert b"The newest" not in all_of_it and b"<td>token-created</td>" in all_of_it
    monkeypatch.setattr(audit, "_READ", 3)
    said = browser.get("/audit?search=e").body
    assert b"to see others. The newest 3 entries were searched: older ones are in the files of the log" in said
    none = browser.get("/audit?search=nothing-like-it").body
    assert b"<p>The newest 3 entries were searched: " in none and b"No entries match." in none


def test_the_chain_is_checked(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.AUDITOR)
    assert b"The chain is whole" in browser.get("/audit/chain").body


def test_who_sees_some_hosts_names_one(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.AUDITOR, selector={"rack": "a"})
    assert b"Enter a host" in browser.get("/audit").body
    assert b"credential-set" in browser.get("/audit?host=node1").body
    assert browser.get("/audit?host=node3").status == 404 and browser.get("/audit/chain").status == 403
