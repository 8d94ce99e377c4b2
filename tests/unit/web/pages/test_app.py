"""The pages as a whole: who may do what, as by the API, and nobody without a session."""

from __future__ import annotations

import json

import pytest
from starlette.routing import Route

from provision.principal import PrincipalRole
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_token
from provision.web.pages.app import Front
from tests.helpers.browser import HOST, OURS, PEER, Browser, logged_in, pages_of, token
from tests.helpers.page_paths import MANY, NO_PAGES, REACHED, SMALL
from tests.helpers.rollouts import begin_rollout
from tests.helpers.site_fixture import CANARY, STRANGER, Site, request

ADOPT = f"/unknown/adopt?mac={STRANGER}&network=mgmt"
READABLE = [
    "/hosts",
    "/site",
    "/hosts/node1",
    "/unknown",
    "/inventory",
    "/images",
    "/rollout",
    "/networks",
    "/tpms",
    "/docs",
    "/docs/api.json",
]
AUDITED = ["/audit", "/audit/chain"]
OF_OPERATORS = ["/hosts/node1/media/iso", "/hosts/node1/media/disk"]
SELECTED = "/selection?action=window&host=node1"
OF_ADMINS = [
    "/tokens",
    ADOPT,
    "/rollout/rollback",
    "/hosts/node1/bmc",
    "/hosts/node1/compromised",
    "/hosts/node1/decommission",
    "/hosts/node1/move",
]
FORMS = {
    "/hosts/node1/window": {"minutes": "5"},
    "/hosts/node1/window/close": {},
    "/hosts/node1/links": {"medium": "iso"},
    "/hosts/node1/links/0123456789ab/revoke": {},
    "/selection": {"action": "window", "hosts": "node1"},
    "/batches/0123456789ab/cancel": {},
    "/hosts/node1/bmc/check": {},
    "/hosts/node1/enrolment": {},
    "/hosts/node1/enrolment/close": {},
    "/hosts/node1/tpm/accept": {"fingerprint": "ab" * 32},
    "/hosts/node1/tpm/reject": {"fingerprint": "ab" * 32},
    "/hosts/node1/operation/cancel": {},
    "/hosts/node1/reprovision": {},
    "/hosts/node1/retry-update": {},
    "/hosts/node1/bmc": {"url": "https://127.0.0.1", "user": "root", "password": "x"},
    "/hosts/node1/bmc/remove": {},
    "/hosts/node1/tpm/remove": {},
    "/hosts/node1/compromised": {},
    "/hosts/node1/decommission": {},
    "/hosts/node1/move": {"macs": "52:54:00:00:00:11"},
    "/unknown/adopt": {"mac": STRANGER, "network": "mgmt", "name": "node9"},
    "/rollout": {"base": "base"},
    "/rollout/pause": {},
    "/rollout/continue": {},
    "/rollout/rollback": {},
    "/inventory": {"text": "site: {}"},
    "/tokens": {"name": "another", "role": "admin"},
    "/tokens/ci/revoke": {},
}
_FORMS_OF_OPERATORS = 14


@pytest.mark.parametrize("role", list(PrincipalRole))
def test_pages_are_for_those_whose_role_has_them(here: Site, role: PrincipalRole) -> None:
    browser = logged_in(here, role)
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    begin_rollout(here)
    allowed = [*READABLE]
    allowed += AUDITED if role.includes(PrincipalRole.AUDITOR) else []
    allowed += [*OF_OPERATORS, SELECTED] if role.includes(PrincipalRole.OPERATOR) else []
    allowed += OF_ADMINS if role.includes(PrincipalRole.ADMIN) else []
    for path in (*READABLE, *AUDITED, *OF_OPERATORS, SELECTED, *OF_ADMINS):
        reply = browser.get(path)
        assert reply.status == (200 if path in allowed else 403), path
        assert (CANARY in reply.body) is (path in OF_OPERATORS and path in allowed), path
        shown = reply.body.decode() if "text/html" in reply.headers["content-type"] else ""
        for words in ("Make link", "Open window", "Let its TPM", "Power and BMC", 'type="checkbox" name="host"'):
            assert (words in shown) <= role.includes(PrincipalRole.OPERATOR), words
        for words in ("Adopt<", "Show what would change", "Set BMC</a>", "Declare", "Start roll-out", "Roll back"):
            assert (words in shown) <= role.includes(PrincipalRole.ADMIN), words


@pytest.mark.parametrize("role", [PrincipalRole.READER, PrincipalRole.AUDITOR, PrincipalRole.OPERATOR])
def test_a_form_that_is_not_shown_is_refused_when_it_is_sent(here: Site, role: PrincipalRole) -> None:
    browser = logged_in(here, role)
    token(here)
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    before = here.state.joinpath("provision.db").read_bytes()
    allowed = list(FORMS)[:_FORMS_OF_OPERATORS] if role is PrincipalRole.OPERATOR else []
    for path, fields in FORMS.items():
        if path not in allowed:
            reply = browser.post(path, None, **fields)
            assert reply.status == 403 and b"and this takes" in reply.body, path
    assert here.state.joinpath("provision.db").read_bytes() == before


def test_who_sees_other_hosts_sees_nothing_of_this_one(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.ADMIN, selector={"rack": "b"})
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    hidden = ("/hosts/node1", "/hosts/node1/media/iso", "/hosts/node1/events", "/audit?host=node1")
    for path in (
        *hidden,
        "/hosts/node1/bmc",
        "/hosts/node1/compromised",
        "/hosts/node1/decommission",
        "/hosts/node1/move",
        "/hosts/node1/power",
        SELECTED,
    ):
        reply, other = browser.get(path), browser.get(path.replace("node1", "node9"))
        assert reply.status == other.status == 404
        assert reply.body.replace(b"node1", b"node9") == other.body
    for path in ("/hosts", "/site", "/hosts?search=node1", "/unknown", "/networks", "/tpms", "/images"):
        body = browser.get(path).body
        assert b"/hosts/node1" not in body and b"52:54:00" not in body and CANARY not in body
    for path in ("/audit/chain", "/tokens", ADOPT, "/rollout", "/rollout/events", "/rollout/rollback"):
        assert browser.get(path).status == 403
    forms = ("window", "operation/cancel", "bmc/check", "compromised", "reprovision", "retry-update", "decommission")
    for path in (f"/hosts/node1/{form}" for form in forms):
        assert browser.post(path).status == 404
    assert browser.post("/selection", action="window", hosts="node1").status == 404
    assert browser.post("/selection", action="window", all="yes").status == 422, "there is none to select"
    assert browser.post("/inventory", text="x").status == 403


def test_the_api_takes_no_cookie_and_the_pages_take_no_token(here: Site) -> None:
    pages = pages_of(here)
    front = Front(operator_app.create(here.service, by_token(here.service)), pages)
    browser, shown = logged_in(here, app=pages), token(here)
    with_cookie = {**OURS, "cookie": browser.cookie}
    for path in ("/v1/hosts", "//v1/hosts", "/v1/hosts/node1/iso", "/v1/openapi.json"):
        reply = request(front, "GET", path, headers=with_cookie, peer=PEER)
        assert reply.problem["status"] == 401 and b"node1" not in reply.body
    bearer = {"host": HOST, "authorization": f"Bearer {shown}"}
    assert len(json.loads(request(front, "GET", "/v1/hosts", headers=bearer, peer=PEER).body)) == 3
    assert request(front, "GET", "/hosts", headers=bearer, peer=PEER).status == 303
    assert request(front, "GET", "/hosts", headers=with_cookie, peer=PEER).status == 200


def test_a_browser_looks_at_every_page(here: Site) -> None:
    """Who adds a page adds it to those that axe-core judges."""
    gets = [one for one in pages_of(here).app.routes if isinstance(one, Route) and "GET" in (one.methods or ())]
    assert len(gets) > 20 and {route.path for route in gets} >= NO_PAGES
    seen = {path.partition("?")[0] for path in (*SMALL, *MANY.values(), *REACHED)}
    # Routes are asked in their order, as Starlette does, so that a page is not taken for another one's.
    looked = {next(route.path for route in gets if route.path_regex.match(path)) for path in seen}
    assert {route.path for route in gets} - NO_PAGES - looked == set()
    assert not looked & NO_PAGES


def test_what_is_not_there(here: Site) -> None:
    browser = logged_in(here)
    assert browser.get("/nothing").status == 404 and browser.get("/hosts/").status == 404
    assert browser.get("/").headers["location"] == "/hosts"
    assert browser.get("/hosts/Node1").status == 422
    assert Browser(browser.app).get("/nothing").status == 303, "who is nobody does not learn what is there"
