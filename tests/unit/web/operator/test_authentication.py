"""One authentication in front of the whole application: nothing is reached past it, and roles bound what is reached."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from provision.api.tokens import NewToken
from provision.errors import Denied, Unauthenticated
from provision.principal import Authentication, Principal, PrincipalRole
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import Authenticated, by_peer_credentials, by_token
from tests.helpers.principals import ROOT, with_role
from tests.helpers.site_fixture import CANARY, Reply, Site, ask, request
from tests.project.test_deny_all import HEADERS, body_of, methods, paths_of, routes

READABLE = {
    *("GET /v1/openapi.json", "GET /v1/inventory", "GET /v1/hosts", "GET /v1/hosts/node1", "GET /v1/credentials"),
    *("GET /v1/images", "GET /v1/dhcp", "GET /v1/tree", "GET /v1/explain/node1", "GET /v1/status", "GET /v1/health"),
    *("HEAD /v1/openapi.json", "GET /v1/principal", "GET /v1/links", "GET /v1/metrics", "GET /v1/ready"),
    *("GET /v1/rollout", "GET /v1/site-keys", "GET /v1/unified"),
    *("GET /v1/tpms", "GET /v1/hosts/node1/tpm", "GET /v1/hosts/node1/tpm/explanation"),
}
AUDITED = {"GET /v1/audit", "GET /v1/audit/verify"}
ADMIN_ONLY = {
    *("POST /v1/store/accept", "POST /v1/clock/accept", "POST /v1/inventory", "POST /v1/credentials"),
    *("PUT /v1/hosts/node1/credentials/token", "DELETE /v1/hosts/node1/credentials/token", "POST /v1/uploads"),
    *("POST /v1/images/base", "DELETE /v1/images/base"),
    *("PUT /v1/hosts/node1/bmc", "DELETE /v1/hosts/node1/bmc"),
    *("POST /v1/tokens", "GET /v1/tokens", "DELETE /v1/tokens/ci"),
    *("POST /v1/hosts/node1/decommission", "POST /v1/hosts/node1/move"),
    *("POST /v1/hosts/node1/compromised", "POST /v1/hosts/node1/replace-mac"),
    *("POST /v1/webhooks/desk/test", "POST /v1/webhooks/desk/replay"),
    *("POST /v1/rollout", "POST /v1/rollout/pause", "POST /v1/rollout/continue", "DELETE /v1/rollout"),
    *("POST /v1/tpms", "DELETE /v1/hosts/node1/tpm", "POST /v1/images/base/revoke"),
    *("POST /v1/site-keys", "DELETE /v1/site-keys/0", "DELETE /v1/site-keys/1"),
    *(
        "POST /v1/secure-boot",
        "POST /v1/secure-boot/enrolment",
        "POST /v1/images/base/unified",
        "POST /v1/images/base/unified/request",
    ),
}
OF_THE_SITE = {
    *("GET /v1/rollout", "GET /v1/site-keys", "GET /v1/unified"),
    *("GET /v1/dhcp", "GET /v1/tree", "GET /v1/check", "GET /v1/metrics", "GET /v1/audit", "GET /v1/audit/verify"),
    *("POST /v1/images/base/verify", *ADMIN_ONLY),
} - {
    path
    for path in ADMIN_ONLY
    if "credentials" in path or "bmc" in path or path.endswith(("/compromised", "/decommission", "/tpm"))
}
"""What concerns all hosts. (Entries of one host are for those who see it.)"""


def scope(client: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": [], "client": client, **fields}


def test_a_peer_of_the_unix_socket_is_an_admin() -> None:
    found = by_peer_credentials(scope(("uid=1000", 4711)))
    assert found == Principal("uid=1000", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS)


@pytest.mark.parametrize(
    "client", [None, ("", 0), ("10.0.0.11", 1024), ("::1", 1), ("uid=", 1), ("uid=0 ", 1), ("uid=0\n", 1), ("root", 1)]
)
def test_nobody_else_is_anybody(here: Site, client: Any) -> None:
    with pytest.raises(Denied, match="did not come through the operator's Unix socket"):
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


def walk(here: Site, asks: Principal) -> dict[str, Reply]:
    """Every route as somebody, with ranges; what removes things comes last."""
    return walk_with(here, operator_app.create(here.service, lambda _: asks))


def walk_with(here: Site, app: Guard, shown: dict[str, str] | None = None, peer: str = "uid=0") -> dict[str, Reply]:
    """Every route of an application with these headers, and with ranges."""

    async def all_of_them() -> dict[str, Reply]:
        replies = {}
        for route in routes(app):
            for path in paths_of(route, here, "0" * 64):
                for method in sorted(methods(route)):
                    body = (
                        body_of(method, path)
                        if not path.endswith(("store/accept", "clock/accept"))
                        else b'{"reason": "in a test"}'
                    )
                    for headers in HEADERS:
                        kind = {"content-type": "application/json", **headers, **(shown or {})}
                        reply = await ask(app, method, path, headers=kind, body=body, peer=peer)
                        replies[f"{method} {path} {headers.get('range', '')}".strip()] = reply
        return replies

    return asyncio.run(all_of_them())


def answered(replies: dict[str, Reply]) -> set[str]:
    """What was not refused, ranges aside."""
    return {asked.split(" bytes=")[0] for asked, reply in replies.items() if reply.status != 403}


def test_a_reader_reads(here: Site) -> None:
    before = here.state.joinpath("provision.db").read_bytes()
    replies = walk(here, with_role(PrincipalRole.READER))
    gone = {asked for asked in answered(replies) if "/pxe" in asked}  # there is no such medium, for anybody
    assert answered(replies) - gone == READABLE
    assert not any(CANARY in reply.body for reply in replies.values())
    assert replies["GET /v1/hosts/node1/iso"].problem["rule"] == "operator-only"
    assert replies["GET /v1/hosts/node1/iso bytes=-1000"].problem["rule"] == "operator-only"
    assert "another role" in replies["GET /v1/hosts/node1/iso/sha256"].problem["detail"]
    assert here.state.joinpath("provision.db").read_bytes() == before
    assert {entry["operator"] for entry in here.audit("decision")} == {"a reader"}


def test_an_auditor_reads_the_log_too(here: Site) -> None:
    replies = walk(here, with_role(PrincipalRole.AUDITOR))
    assert {asked for asked in answered(replies) if "/pxe" not in asked} == READABLE | AUDITED
    assert replies["POST /v1/hosts/node1/window"].problem["fact"] == "has the role auditor, and this takes operator"


def refused(replies: dict[str, Reply], status: int = 403) -> set[str]:
    return {asked.split(" bytes=")[0] for asked, reply in replies.items() if reply.status == status}


def test_an_operator_takes_media_and_changes_nothing_else(here: Site) -> None:
    replies = walk(here, with_role(PrincipalRole.OPERATOR))
    assert refused(replies) == ADMIN_ONLY
    assert CANARY in replies["GET /v1/hosts/node1/iso"].body


def test_an_admin_does_everything(here: Site) -> None:
    assert refused(walk(here, with_role(PrincipalRole.ADMIN))) == set()


def test_who_sees_some_hosts_touches_nothing_of_all(here: Site) -> None:
    some = replace(with_role(PrincipalRole.ADMIN), selector=(("rack", "a"),))
    replies = walk(here, some)
    assert refused(replies) == OF_THE_SITE
    assert {replies[asked].problem["rule"] for asked in OF_THE_SITE} == {"selector"}
    assert CANARY in replies["GET /v1/hosts/node1/iso"].body


def test_who_sees_other_hosts_gets_no_byte_of_this_one(here: Site) -> None:
    before = here.state.joinpath("provision.db").read_bytes()
    replies = walk(here, replace(with_role(PrincipalRole.ADMIN), selector=(("rack", "b"),)))
    told = [reply.body for asked, reply in replies.items() if "openapi" not in asked]  # which has examples
    assert not any(CANARY in body or b"52:54:00" in body for body in told)
    named = {asked for asked in replies if "/node1" in asked and not asked.startswith("HEAD")}
    assert {replies[asked].status for asked in named} == {404}
    assert here.state.joinpath("provision.db").read_bytes() == before


# By token


def shown(here: Site, **wanted: Any) -> str:
    """What a new token's owner sends as Authorization."""
    fields = {"name": "ci", "role": PrincipalRole.ADMIN, **wanted}
    return f"Bearer {here.service.tokens.create(NewToken(**fields), ROOT).token}"


def test_a_token_lets_in(here: Site) -> None:
    app = operator_app.create(here.service, by_token(here.service))
    sent = shown(here, role=PrincipalRole.READER, selector={"rack": "a"})
    for header in (sent, sent.replace("Bearer", "bearer"), sent.replace(" ", "   ")):
        reply = request(app, "GET", "/v1/principal", headers={"authorization": header}, peer="192.0.2.7")
        assert json.loads(reply.body)["name"] == "token:ci" and json.loads(reply.body)["selector"] == {"rack": "a"}


def test_without_a_good_token_no_route_gives_anything(here: Site) -> None:
    app = operator_app.create(here.service, by_token(here.service))
    revoked = shown(here)
    here.service.tokens.revoke("ci", ROOT)
    expired = shown(here, name="old", days=1)
    here.clock.advance(days=2)
    good = shown(here, name="good").removeprefix("Bearer ")
    before = here.state.joinpath("provision.db").read_bytes()
    wrong = [
        None,
        revoked,
        expired,
        f"Basic {good}",
        f"Bearer {good}x",
        f"Bearer {good} {good}",
        good,
        f"Bearer\t{good}",
    ]
    for header in wrong:
        here.clock.advance(minutes=2)  # or it would be 429 at some point
        replies = walk_with(here, app, {} if header is None else {"authorization": header}, "192.0.2.7")
        assert {reply.status for reply in replies.values()} <= {401, 429} and len(replies) > 100
        assert len({(reply.status, reply.body) for reply in replies.values() if reply.body}) <= 3
        assert all("www-authenticate" in r.headers or "retry-after" in r.headers for r in replies.values())
    assert here.state.joinpath("provision.db").read_bytes() == before
    text = (here.state / "audit.log").read_text()
    assert good not in text and revoked.removeprefix("Bearer ") not in text


def test_a_token_elsewhere_than_in_its_header_is_none(here: Site) -> None:
    app = operator_app.create(here.service, by_token(here.service))
    good = shown(here).removeprefix("Bearer ")
    for path, headers in (
        (f"/v1/hosts?access_token={good}", {}),
        (f"/v1/hosts?token={good}", {}),
        ("/v1/hosts", {"cookie": f"token={good}"}),
        ("/v1/hosts", {"x-forwarded-authorization": f"Bearer {good}"}),
        ("/v1/hosts", {"proxy-authorization": f"Bearer {good}"}),
    ):
        assert request(app, "GET", path, headers=headers, peer="192.0.2.7").status == 401


def test_two_authorizations_are_none(here: Site) -> None:
    good = shown(here).encode()
    header = (b"authorization", good)
    asked = scope(("192.0.2.7", 1), headers=[header])
    found = by_token(here.service)(asked)
    assert isinstance(found, Principal) and found.name == "token:ci"

    async def twice() -> None:
        found = by_token(here.service)(scope(("192.0.2.7", 1), headers=[header, header]))
        assert not isinstance(found, Principal)
        await found

    with pytest.raises(Unauthenticated):
        asyncio.run(twice())


def test_a_token_that_is_revoked_is_good_for_nothing_at_once(here: Site) -> None:
    app = operator_app.create(here.service, by_token(here.service))
    header = {"authorization": shown(here)}
    reply = request(app, "DELETE", "/v1/tokens/ci", headers=header, peer="192.0.2.7")
    assert reply.status == 204
    assert request(app, "GET", "/v1/principal", headers=header, peer="192.0.2.7").status == 401
