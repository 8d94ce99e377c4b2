"""The TPM on the page of its host: let it be enrolled, compare, accept, reject, forget."""

from __future__ import annotations

from provision.principal import PrincipalRole
from tests.helpers.browser import Browser, logged_in
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site
from tests.helpers.tpm_samples import tpm

OWN, OTHER = "a1" * 32, "b2" * 32


def page(browser: Browser) -> str:
    return browser.get("/hosts/node1").body.decode()


def test_an_operator_compares_and_an_admin_forgets(here: Site) -> None:
    operator, admin = logged_in(here, PrincipalRole.OPERATOR), logged_in(here, PrincipalRole.ADMIN)
    assert "No TPM is enrolled." in page(operator) and "Remove TPM" not in page(admin)
    assert operator.post("/hosts/node1/enrolment", minutes="0").status == 422
    assert operator.post("/hosts/node1/enrolment").status == 303
    assert "A TPM may be enrolled until" in page(operator) and "Close enrolment" in page(operator)
    tpms = here.service.core.store.tpms
    for mark in (OWN, OTHER):
        tpms.put(tpm("node1", known="", fingerprint=mark, at=here.clock()))
    shown = page(operator)
    assert "a1a1a1a1 a1a1a1a1" in shown and "b2b2b2b2 b2b2b2b2" in shown and "Waits to be accepted" in shown
    for wrong in (OWN[:16], "", OWN[:-1] + "g"):
        assert operator.post("/hosts/node1/tpm/accept", fingerprint=wrong).status == 422
    assert operator.post("/hosts/node1/tpm/accept", fingerprint="c3" * 32).status == 404
    assert operator.post("/hosts/node1/tpm/reject", fingerprint=OTHER).status == 303
    assert "b2b2b2b2" not in page(operator)
    assert operator.post("/hosts/node1/tpm/accept", fingerprint=" ".join((OWN[:32], OWN[32:].upper()))).status == 303
    shown = page(admin)
    assert "Enrolled: accepted token:" in shown and "Open enrolment" not in shown and "Close enrol" not in shown
    assert admin.post("/hosts/node1/tpm/remove").status == 303
    assert "No TPM is enrolled." in page(admin) and tpms.all() == ()
    admin.post("/hosts/node1/enrolment", minutes="5")
    assert admin.post("/hosts/node1/enrolment/close").status == 303
    assert "Open enrolment" in page(admin)


def test_one_page_has_all_those_that_need_somebody_first(here: Site) -> None:
    browser, tpms = logged_in(here, PrincipalRole.OPERATOR), here.service.core.store.tpms
    assert "No TPM is enrolled, and none waits to be accepted." in browser.get("/tpms").body.decode()
    tpms.put(tpm("node1", known="imported", fingerprint=OWN, at=here.clock()))
    for mark in (OTHER, "c3" * 32):
        tpms.put(tpm("node2", known="", fingerprint=mark, at=here.clock()))
    assert browser.post("/hosts/node3/enrolment").status == 303
    shown = browser.get("/tpms").body.decode()
    order = [shown.index(f'href="/hosts/{name}#tpm"') for name in ("node2", "node3", "node1")]
    assert order == sorted(order) and "waits</span> 2 to be accepted" in shown and "enrolled</span> imported" in shown
    assert 'href="/tpms" aria-current="page"' in shown
    other = logged_in(here, PrincipalRole.READER, selector={"rack": "b"}, name="other")
    assert "node1" not in other.get("/tpms").body.decode()


def test_a_revoked_image_is_seen_to_be_one(here: Site) -> None:
    browser = logged_in(here)
    assert "intact</span>" in browser.get("/images").body.decode()
    here.service.envelopes.revoke("base", ROOT)
    shown = browser.get("/images").body.decode()
    assert "revoked</span>: its hosts cannot open their envelopes" in shown and "intact" not in shown
