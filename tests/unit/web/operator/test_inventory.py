"""Changing the inventory: the same again changes nothing, and nobody overwrites what they have not seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provision.principal import PrincipalRole
from provision.service.inventory import NOTHING
from provision.service.service import Service
from provision.store.keys import create_key
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials, by_token
from tests.helpers.browser import token
from tests.helpers.site_fixture import INVENTORY, MAC1, STRANGER, Reply, Site, make_base, request, settings
from tests.unit.web.operator.test_app import CHANGED, files

OTHER = INVENTORY.replace("rack: a", "rack: c")


@pytest.fixture
def app(here: Site) -> Guard:
    return operator_app.create(here.service, by_peer_credentials)


def apply(app: Guard, text: str, **headers: str) -> Reply:
    body = json.dumps({"files": files(text)}).encode()
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return request(app, "POST", "/v1/inventory", body=body, headers=sent, peer="uid=0")


def tag(app: Guard) -> str:
    return request(app, "GET", "/v1/inventory", peer="uid=0").headers["etag"]


def test_the_same_again_changes_nothing(here: Site, app: Guard) -> None:
    first = apply(app, CHANGED)
    told = len(here.audit())
    again = apply(app, CHANGED)
    assert first.headers["etag"] == again.headers["etag"] == json.loads(again.body)["etag"] == tag(app)
    assert json.loads(again.body)["lines"] == [] and len(here.audit()) == told


def test_who_has_not_seen_the_present_inventory_does_not_change_it(here: Site, app: Guard) -> None:
    seen = tag(app)
    assert apply(app, CHANGED, if_match=seen).status == 200
    refused = apply(app, OTHER, if_match=seen)
    assert refused.problem["status"] == 412 and refused.problem["title"] == "precondition-failed"
    assert "somebody has changed it since you looked at it" in refused.problem["fact"]
    assert here.service.core.hosts["node1"].labels == {"rack": "b"}
    for match in (f"W/{tag(app)}", '"other"', "", "x" * 1000):
        assert apply(app, OTHER, if_match=match).status == 412
    assert apply(app, OTHER, if_match=f'"other", {tag(app)}').status == 200
    assert apply(app, CHANGED, if_match="*").status == apply(app, OTHER).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/hosts/node1/replace-mac", {"old": MAC1, "new": STRANGER}),
        ("/v1/hosts/node1/move", {"macs": [STRANGER]}),
    ],
)
def test_nor_exchanges_hardware(here: Site, app: Guard, path: str, body: dict[str, object]) -> None:
    headers = {"content-type": "application/json", "if-match": tag(app)}
    assert apply(app, CHANGED).status == 200
    reply = request(app, "POST", path, body=json.dumps(body).encode(), headers=headers, peer="uid=0")
    assert reply.problem["status"] == 412 and here.service.core.hosts["node1"].macs == (MAC1,)
    headers["if-match"] = tag(app)
    assert request(app, "POST", path, body=json.dumps(body).encode(), headers=headers, peer="uid=0").status == 200
    assert here.service.core.hosts["node1"].macs == (STRANGER,)


@pytest.mark.parametrize("path", ["/v1/inventory", "/v1/hosts/node1/replace-mac"])
def test_the_tag_of_an_answer_is_of_what_it_made(
    here: Site, app: Guard, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Somebody else is faster than the answer: with their tag, whoever gets it would undo what they have not seen."""
    hosts, made = here.service.core.store.hosts, list[str]()
    store = hosts.apply

    def overtaken(*args: Any) -> None:
        monkeypatch.setattr(hosts, "apply", store)
        store(*args)
        made.append(here.service.inventories.tag())
        here.apply(OTHER)

    monkeypatch.setattr(hosts, "apply", overtaken)
    exchange = {"old": MAC1, "new": STRANGER}
    body = json.dumps({"files": files(CHANGED)} if path == "/v1/inventory" else exchange).encode()
    reply = request(app, "POST", path, body=body, headers={"content-type": "application/json"}, peer="uid=0")
    told = json.loads(reply.body)
    assert made == [told.get("changes", told)["etag"]] and tag(app) != made[0]


def test_any_that_there_is_is_not_nothing(tmp_path: Path) -> None:
    create_key(tmp_path)
    make_base(tmp_path)
    service = Service.open(settings(tmp_path))
    try:
        app = operator_app.create(service, by_peer_credentials)
        assert apply(app, INVENTORY, if_match="*").status == 412
        assert apply(app, INVENTORY, if_match=NOTHING).status == 200
    finally:
        service.close()


def test_the_tag_is_of_content(here: Site, app: Guard) -> None:
    before = tag(app)
    assert apply(app, CHANGED).headers["etag"] != before
    assert apply(app, INVENTORY).headers["etag"] == before
    dry = request(
        app,
        "POST",
        "/v1/inventory",
        body=json.dumps({"files": files(CHANGED), "dry_run": True}).encode(),
        headers={"content-type": "application/json"},
        peer="uid=0",
    )
    assert dry.headers["etag"] == before != NOTHING


def test_who_sees_some_hosts_has_a_tag_of_those(here: Site, app: Guard) -> None:
    some = operator_app.create(here.service, by_token(here.service))
    header = {"authorization": f"Bearer {token(here, 'ci', PrincipalRole.READER, selector={'rack': 'a'})}"}

    def seen() -> Any:
        return request(some, "GET", "/v1/inventory", headers=header).headers["etag"]

    before = seen()
    assert before != tag(app)
    apply(app, INVENTORY.replace("netboot: never", "netboot: always"))
    assert seen() == before, "node3 is none of theirs"
