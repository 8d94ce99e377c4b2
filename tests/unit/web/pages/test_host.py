"""The page of one host: what an admin declares of it."""

from __future__ import annotations

from provision.errors import Denied
from provision.principal import PrincipalRole
from tests.helpers.browser import logged_in
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, Site


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
