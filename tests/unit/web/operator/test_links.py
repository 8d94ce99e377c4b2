"""The routes by which links are made, listed and revoked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.site_fixture import Reply, Site, request


@pytest.fixture
def app(here: Site) -> Guard:
    return operator_app.create(here.service, by_peer_credentials)


def call(app: Guard, method: str, path: str, body: Any = None) -> Reply:
    content = b"" if body is None else json.dumps(body).encode()
    return request(app, method, path, body=content, headers={"content-type": "application/json"}, peer="uid=0")


def test_a_link_is_made_listed_and_revoked(app: Guard) -> None:
    made = json.loads(call(app, "POST", "/v1/hosts/node1/links", {"medium": "disk", "uses": 3}).body)
    assert (made["host"], made["medium"], made["uses"], len(made["urls"])) == ("node1", "disk", 3, 1)
    (row,) = json.loads(call(app, "GET", "/v1/links?host=node1").body)
    assert (row["id"], row["state"], row["used"], row["peers"]) == (made["id"], "good", 0, [])
    assert made["urls"][0].rpartition("/")[2][:26] not in json.dumps(row)
    assert json.loads(call(app, "GET", "/v1/links?host=node2").body) == []
    assert call(app, "DELETE", f"/v1/links/{made['id']}").status == 204
    assert json.loads(call(app, "GET", "/v1/links").body)[0]["state"] == "revoked"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/hosts/node9/links", {"medium": "iso"}, 404),
        ("POST", "/v1/hosts/node1/links", {}, 422),
        ("POST", "/v1/hosts/node1/links", {"medium": "pxe"}, 422),
        ("POST", "/v1/hosts/node1/links", {"medium": "iso", "minutes": 0}, 422),
        ("POST", "/v1/hosts/node1/links", {"medium": "iso", "address": "bmc1"}, 422),
        ("POST", "/v1/hosts/node1/links", {"medium": "iso", "secret": "x"}, 422),
        ("GET", "/v1/links?host=node9", None, 404),
        ("DELETE", "/v1/links/0123456789ab", None, 404),
        ("DELETE", "/v1/links/node1", None, 422),
    ],
)
def test_what_cannot_be_is_a_problem(app: Guard, method: str, path: str, body: Any, status: int) -> None:
    assert call(app, method, path, body).problem["status"] == status
