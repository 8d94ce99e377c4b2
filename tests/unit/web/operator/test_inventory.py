"""Changing the inventory: the same again changes nothing, and nobody overwrites what they have not seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provision.principal import PrincipalRole
from provision.service.inventory import NOTHING
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials, by_token
from tests.helpers.browser import token
from tests.helpers.site_fixture import INVENTORY, Reply, Site, request
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
