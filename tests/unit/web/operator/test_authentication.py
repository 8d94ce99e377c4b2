"""One authentication in front of the whole application: nothing is reached past it, and roles bound what is reached."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from provision.errors import Denied
from provision.principal import Authentication, Principal, PrincipalRole
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import Authenticated, by_peer_credentials
from tests.helpers.principals import with_role
from tests.helpers.site_fixture import CANARY, Reply, Site, ask, request
from tests.project.test_deny_all import HEADERS, body_of, methods, paths_of, routes

READABLE = {
    *("GET /v1/openapi.json", "GET /v1/inventory", "GET /v1/hosts", "GET /v1/hosts/node1", "GET /v1/credentials"),
    *("GET /v1/images", "GET /v1/dhcp", "GET /v1/tree", "GET /v1/explain/node1", "GET /v1/status", "GET /v1/health"),
    "GET /v1/links",
    "HEAD /v1/openapi.json",
}
AUDITED = {"GET /v1/audit", "GET /v1/audit/verify"}
ACCEPTED = {"POST /v1/store/accept", "POST /v1/clock/accept"}


def scope(client: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": [], "client": client, **fields}


def test_a_peer_of_the_unix_socket_is_an_admin() -> None:
    found = by_peer_credentials(scope(("uid=1000", 4711)))
    assert found == Principal("uid=1000", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS)


@pytest.mark.parametrize(
    "client", [None, ("", 0), ("10.0.0.11", 1024), ("::1", 1), ("uid=", 1), ("uid=0 ", 1), ("uid=0\n", 1), ("root", 1)]
)
def test_nobody_else_is_anybody(here: Site, client: Any) -> None:
    with pytest.raises(Denied, match="does not come by the operator's Unix socket"):
        by_peer_credentials(scope(client))
    app = operator_app.create(here.service, by_peer_credentials)
    reply = request(app, "GET", "/v1/hosts/node1/iso", peer=client[0] if client else "")
    assert reply.problem["status"] == 403 and CANARY not in reply.body


def test_a_refused_body_is_not_read() -> None:
    async def app(*_: Any) -> None:
        raise AssertionError("reached")

    async def receive() -> Any:
        raise AssertionError("read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Authenticated(app, by_peer_credentials)(scope(("10.0.0.1", 1), method="POST"), receive, send))
    assert sent[0]["status"] == 403 and (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "other"])
def test_nothing_passes_as_another_kind_of_request(here: Site, kind: str) -> None:
    app = operator_app.create(here.service, lambda _: with_role(PrincipalRole.ADMIN))

    async def nothing(*_: Any) -> Any:
        raise AssertionError("reached")

    with pytest.raises(RuntimeError, match="nothing but HTTP"):
        asyncio.run(app(scope(("uid=0", 1), type=kind), nothing, nothing))


def walk(here: Site, role: PrincipalRole) -> dict[str, Reply]:
    """Every route as somebody of that role, with ranges; what removes things comes last."""
    app = operator_app.create(here.service, lambda _: with_role(role))

    async def all_of_them() -> dict[str, Reply]:
        replies = {}
        for route in routes(app):
            for path in paths_of(route, here, "0" * 64):
                for method in sorted(methods(route)):
                    body = body_of(method, path) if "accept" not in path else b'{"reason": "in a test"}'
                    for headers in HEADERS:
                        kind = {"content-type": "application/json", **headers}
                        reply = await ask(app, method, path, headers=kind, body=body, peer="uid=0")
                        replies[f"{method} {path} {headers.get('range', '')}".strip()] = reply
        return replies

    return asyncio.run(all_of_them())


def answered(replies: dict[str, Reply]) -> set[str]:
    """What was not refused, ranges aside."""
    return {asked.split(" bytes=")[0] for asked, reply in replies.items() if reply.status != 403}


def test_a_reader_reads(here: Site) -> None:
    before = here.state.joinpath("provision.db").read_bytes()
    replies = walk(here, PrincipalRole.READER)
    gone = {asked for asked in answered(replies) if "/pxe" in asked}  # there is no such medium, for anybody
    assert answered(replies) - gone == READABLE
    assert not any(CANARY in reply.body for reply in replies.values())
    assert replies["GET /v1/hosts/node1/iso"].problem["rule"] == "operator-only"
    assert replies["GET /v1/hosts/node1/iso bytes=-1000"].problem["rule"] == "operator-only"
    assert "another role" in replies["GET /v1/hosts/node1/iso/sha256"].problem["detail"]
    assert here.state.joinpath("provision.db").read_bytes() == before
    assert {entry["operator"] for entry in here.audit("decision")} == {"a reader"}


def test_an_auditor_reads_the_log_too(here: Site) -> None:
    replies = walk(here, PrincipalRole.AUDITOR)
    assert {asked for asked in answered(replies) if "/pxe" not in asked} == READABLE | AUDITED
    assert replies["POST /v1/hosts/node1/window"].problem["fact"] == "has the role auditor, and this takes operator"


def test_an_operator_does_all_but_accept(here: Site) -> None:
    replies = walk(here, PrincipalRole.OPERATOR)
    assert {asked.split(" bytes=")[0] for asked, reply in replies.items() if reply.status == 403} == ACCEPTED
    assert CANARY in replies["GET /v1/hosts/node1/iso"].body
