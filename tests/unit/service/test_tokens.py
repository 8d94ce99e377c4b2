"""Tokens are made and revoked by admins, in the audit log, and shown once; a selector hides all other hosts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.api.links import LinkMedium, MakeLink
from provision.api.tokens import NewToken
from provision.boot import Medium
from provision.errors import Conflict, Denied, NotFound, Problems, ProvisionError
from provision.principal import Authentication, Principal, PrincipalRole
from provision.secret import Secret
from provision.service.service import Service
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, Site, site

RACK_A = Principal("token:a", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS, (("rack", "a"),))
"""Sees node1 and node2, and not node3."""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def test_it_is_shown_once_and_never_again(here: Site) -> None:
    wanted = NewToken(name="ci", role=PrincipalRole.OPERATOR, days=7, selector={"rack": "a"})
    created = here.service.tokens.create(wanted, ROOT)
    assert created.token not in repr(created) and created.token not in str(here.service.tokens.listing())
    (entry,) = here.audit("token-created")
    assert (entry["token"], entry["role"], entry["selector"]) == ("ci", "operator", "rack=a")
    assert created.token[10:] not in (here.state / "audit.log").read_text()
    here.service.tokens.revoke("ci", ROOT)
    assert here.service.tokens.listing() == [] and here.audit("token-revoked")
    with pytest.raises(NotFound):
        here.service.tokens.revoke("ci", ROOT)


def test_links_that_were_made_with_it_go_with_it(here: Site) -> None:
    here.service.tokens.create(NewToken(name="a", role=PrincipalRole.ADMIN), ROOT)
    order = MakeLink(medium=LinkMedium.ISO)
    for maker in (RACK_A, ROOT):
        here.service.links.make("node1", order, maker)
    here.service.tokens.revoke("a", ROOT)
    assert {row.by: row.state for row in here.service.links.listing(ROOT)} == {"token:a": "revoked", "uid=0": "good"}


def test_a_name_is_taken_once(here: Site) -> None:
    here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.READER), ROOT)
    with pytest.raises(Conflict):
        here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.ADMIN), ROOT)
    assert [row.role for row in here.service.tokens.listing()] == ["reader"]


def test_the_store_and_the_log_agree_after_it(here: Site) -> None:
    here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.READER), ROOT)
    known = here.service.core.audit.known
    assert known is not None and known.generation == here.service.core.store.database.generation


OF_ONE_HOST: dict[str, Callable[[Service, str], Any]] = {
    "show": lambda service, name: service.inventories.host(name, RACK_A),
    "status": lambda service, name: service.reports.status(RACK_A, name),
    "explain": lambda service, name: service.reports.explain(name, RACK_A),
    "open": lambda service, name: service.windows.open(name, 5, 1, RACK_A),
    "close": lambda service, name: service.windows.close(name, RACK_A),
    "iso": lambda service, name: service.media.plan(name, Medium.ISO, RACK_A),
    "sha256": lambda service, name: service.media.describe(name, Medium.ISO, RACK_A),
    "credentials": lambda service, name: service.credentials.listing(name, RACK_A),
    "set": lambda service, name: service.credentials.put(name, "token", Secret(CANARY), None, None, RACK_A),
    "load": lambda service, name: service.credentials.put_many([(name, "token", Secret(CANARY))], RACK_A),
    "audit": lambda service, name: service.auditing.entries(name, 10, RACK_A),
    "remove": lambda service, name: service.credentials.remove(name, "token", RACK_A),
}


def said(call: Callable[[], Any], name: str) -> tuple[type, str]:
    with pytest.raises(ProvisionError) as caught:
        call()
    return type(caught.value), json.dumps(caught.value.details()).replace(name, "NAME")


@pytest.mark.parametrize("what", OF_ONE_HOST)
def test_a_host_that_is_not_seen_is_as_one_that_is_not_there(here: Site, what: str) -> None:
    asked = OF_ONE_HOST[what]
    before = [entry["event"] for entry in here.audit()]
    hidden = said(lambda: asked(here.service, "node3"), "node3")
    assert hidden == said(lambda: asked(here.service, "node9"), "node9")
    assert hidden[0] in (NotFound, Problems)
    assert [entry["event"] for entry in here.audit()] == before
    asked(here.service, "node1")


def test_lists_have_only_what_is_seen(here: Site) -> None:
    service, seen = here.service, ["node1", "node2"]
    assert [row.name for row in service.inventories.hosts(RACK_A)] == seen
    assert [host.name for host in service.inventories.current(RACK_A).hosts] == seen
    assert [row.host for row in service.reports.status(RACK_A).hosts] == seen
    assert {row.host for row in service.credentials.listing(None, RACK_A)} == set(seen)
    assert [row.name for row in service.inventories.hosts(ROOT)] == [*seen, "node3"]


def test_unknown_machines_and_the_whole_log_are_for_those_who_see_all(here: Site) -> None:
    here.service.core.store.sightings.seen("52:54:00:00:00:99", None, "mgmt", here.clock())
    assert here.service.reports.status(ROOT).unknown and not here.service.reports.status(RACK_A).unknown
    with pytest.raises(Denied, match="name a host"):
        here.service.auditing.entries(None, 10, RACK_A)


def test_reading_the_log_is_in_the_log(here: Site) -> None:
    here.service.auditing.entries("node1", 10, ROOT)
    here.service.auditing.entries("node1", 10, ROOT)
    here.service.auditing.verify(ROOT)
    read = [(entry["subject"], entry.get("count")) for entry in here.audit("audit-read")]
    assert read == [("entries of node1", None), ("chain", None), ("entries of node1", 1)]
    assert "audit-read" not in {entry.get("event") for entry in here.service.auditing.entries("node1", 10, ROOT)}


def test_a_host_that_appears_while_it_is_asked_for_is_not_shown(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it may be seen is asked of what is then used, and not of what was there a moment before."""
    core, other = here.service.core, INVENTORY.replace("rack: a", "rack: b")
    state = core.state

    def late(name: str) -> Any:
        here.apply(other)
        return state(name)

    monkeypatch.setattr(core, "state", late)
    with pytest.raises(NotFound):
        core.seen("node1", RACK_A)
