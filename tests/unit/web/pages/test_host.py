"""The page of one host: what an admin declares of it."""

from __future__ import annotations

from pathlib import Path

from provision.errors import Denied
from provision.principal import PrincipalRole
from tests.helpers.browser import logged_in
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, Site, site


def test_a_host_is_declared_compromised_and_gets_nothing_until_all_is_replaced(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.ADMIN)
    made = make(here)
    here.window()
    asked = browser.get("/hosts/node1/compromised").body.decode()
    assert "Declare node1 compromised?" in asked
    assert here.service.core.state("node1").window is not None, "asking changes nothing"
    done = browser.post("/hosts/node1/compromised")
    shown = done.body.decode()
    assert done.status == 200 and "is declared compromised" in shown and CANARY.decode() not in shown
    for words in ("<dd>closed</dd>", "<dt>Links revoked</dt><dd>1</dd>", "<dd>token</dd>", "credential set node1"):
        assert words in shown, words
    (link,) = [row for row in here.service.links.listing(ROOT, "node1") if row.id == made.answer.id]
    assert link.state == "revoked"
    page = browser.get("/hosts/node1").body.decode()
    assert "Exposed: replace it" in page and "credential-exposed" in page
    assert browser.get("/hosts/node1/media/iso").status == Denied.status
    here.secret("node1", CANARY + b" replaced")
    assert browser.get("/hosts/node1/media/iso").status == 200


def test_a_window_in_which_nothing_answers_is_told_of(tmp_path: Path) -> None:
    with site(tmp_path, listen=()) as deaf:
        browser = logged_in(deaf, PrincipalRole.OPERATOR)
        assert b"Note: no [[listen]]" not in browser.get("/hosts/node1").body
        browser.post("/hosts/node1/window")
        assert b"Note: no [[listen]] block names mgmt, so nothing answers" in browser.get("/hosts/node1").body


def test_a_window_in_which_the_server_answers_needs_no_note(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    assert browser.post("/hosts/node1/window").status == 303
    body = browser.get("/hosts/node1").body
    assert b"data-window-open" in body and b"Note: no [[listen]]" not in body
