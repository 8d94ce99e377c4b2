"""Attacks with tokens: held back until they are revoked, beside their own revocation, and by those of a lesser role."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from provision.api.tokens import NewToken
from provision.principal import PrincipalRole
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_token
from tests.helpers.api_site import api_site
from tests.helpers.principals import ROOT
from tests.helpers.serving import serve
from tests.helpers.site_fixture import CANARY, IP, MAC1, Reply, Site, ask, leaks, request, secret_forms, site
from tests.integration.attacks.held import PEER, disk_that_waits, held, scope_of
from tests.project.test_deny_all import begin, walk


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def header(here: Site, role: PrincipalRole = PrincipalRole.ADMIN) -> dict[str, str]:
    """What the owner of a new token sends."""
    made = here.service.tokens.create(NewToken(name="thief", role=role, days=1), ROOT)
    return {"authorization": f"Bearer {made.token}", "content-type": "application/json"}


CHANGES = ("window-opened", "window-closed", "link-made", "credential-set", "credential-removed", "power-changed")
HELD = {
    "a medium": ("GET", "/v1/hosts/node1/iso", b"x" * 10),
    "a token": ("POST", "/v1/tokens", json.dumps({"name": "heir", "role": "admin"}).encode()),
    "a link": ("POST", "/v1/hosts/node1/links", b'{"medium": "iso", "minutes": 10080}'),
    "a window": ("POST", "/v1/hosts/node1/window", b"{}"),
    "a credential": ("PUT", "/v1/hosts/node1/credentials/token", CANARY),
}


@pytest.mark.parametrize("expired", [False, True], ids=["revoked", "expired"])
@pytest.mark.parametrize("wanted", HELD)
def test_a_request_that_is_held_back_is_nobodys_when_its_token_has_ended(
    here: Site, wanted: str, expired: bool
) -> None:
    """A body may take weeks to come; a token that has ended in between must not give what it was good for before."""
    app, headers = operator_app.create(here.service, by_token(here.service)), header(here)

    def end() -> None:
        if expired:
            here.clock.advance(days=2)
        else:
            here.service.tokens.revoke("thief", ROOT)

    method, path, body = HELD[wanted]
    before = len(here.audit())
    reply = held(app, method, path, headers, body, end)
    assert reply.status == 401 and CANARY not in reply.body
    assert [row.name for row in here.service.tokens.listing() if row.name != "thief"] == []
    assert here.service.links.listing(ROOT) == []
    told = {entry["event"] for entry in here.audit()[before:]}
    assert told <= {"begun", "token-revoked", "login-failed"}


def test_what_is_held_back_is_answered_while_its_token_is_good(here: Site) -> None:
    app, headers = operator_app.create(here.service, by_token(here.service)), header(here)
    for method, path, body in HELD.values():
        assert held(app, method, path, headers, body, lambda: None).status == 200


@pytest.mark.parametrize("part", ["", "bytes=0-600000"])
def test_a_download_ends_when_its_token_is_revoked(here: Site, part: str) -> None:
    app, headers, done = operator_app.create(here.service, by_token(here.service)), header(here), list[int]()

    def revoke() -> None:
        if not done:
            done.append(1)
            here.service.tokens.revoke("thief", ROOT)
            here.clock.advance(seconds=1)
            header(here)  # another one of the same name

    ranged = {"range": part} if part else {}
    reply = request(app, "GET", "/v1/hosts/node1/iso", headers=headers | ranged, peer=PEER, on_body=revoke)
    assert reply.error is not None and len(reply.body) < 256 * 1024 and CANARY not in reply.body


@pytest.mark.parametrize("step", ["id_of", "make"])
def test_no_link_is_made_beside_the_revocation_of_its_token(
    here: Site, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The token is revoked when its link is decided on, and not yet stored: nobody would look for that link again."""
    app, headers = operator_app.create(here.service, by_token(here.service)), header(here)
    links = here.service.core.store.links
    do = getattr(links, step)
    revoking = threading.Thread(target=here.service.tokens.revoke, args=("thief", ROOT))

    def late(*arguments: Any) -> Any:
        revoking.start()
        revoking.join(1.0)  # or it has to wait for the link
        return do(*arguments)

    monkeypatch.setattr(links, step, late)
    request(app, "POST", "/v1/hosts/node1/links", headers=headers, body=b'{"medium": "iso"}', peer=PEER)
    revoking.join(60)
    assert here.service.tokens.listing() == []
    assert {row.state for row in here.service.links.listing(ROOT)} <= {"revoked"}


@pytest.mark.parametrize("role", ["reader", "auditor", "operator"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_large_body_is_read_of_nobody_who_may_not_send_it(here: Site, role: str, declared: bool) -> None:
    """Its JSON would be parsed in the event loop, while hosts boot, before its sender is told that it has no right."""
    app, headers = operator_app.create(here.service, by_token(here.service)), header(here, PrincipalRole(role))
    size = 2 << 20
    length = (b"content-length", b"%d" % size) if declared else (b"transfer-encoding", b"chunked")
    for method, path in (("POST", "/v1/inventory"), ("POST", "/v1/credentials"), ("POST", "/v1/images/base")):
        taken, reply = 0, Reply()

        async def receive() -> dict[str, Any]:
            nonlocal taken
            taken += 65536
            return {"type": "http.request", "body": b"[" * 65536, "more_body": taken < size}

        async def send(message: Any, reply: Reply = reply) -> None:
            reply.status = message.get("status", reply.status)
            reply.body += message.get("body", b"")

        asyncio.run(app(scope_of(method, path, headers, length), receive, send))
        assert reply.status == 403 and json.loads(reply.body)["rule"] == "role"
        assert taken <= (0 if declared else 2 * 65536)


@pytest.mark.parametrize("path", [f"/b/{'0' * 26}.iso", "/b/", "/v1/hosts"])
def test_a_stranger_who_never_ends_a_body_keeps_no_place(tmp_path: Path, path: str) -> None:
    """A connection that gets on gives way to nobody: a few hundred would keep every operator out."""
    made = api_site(tmp_path)
    with serve(made.state) as served:
        served.wait_for("serving the operators' API at")
        trust = ssl.create_default_context(cafile=str(made.ca))
        with (
            socket.create_connection(("127.0.0.1", made.port), 30) as sock,
            trust.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n".encode())
            assert re.match(rb"HTTP/1.1 40[14] ", tls.recv(65536))
            tls.settimeout(0.5)
            deadline, ended = time.monotonic() + 45, False
            while not ended and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    try:
                        tls.sendall(b"x")
                        ended = tls.recv(65536) == b""
                    except (ConnectionError, ssl.SSLError):
                        ended = True
            assert ended


def test_failed_logins_stop_nothing_while_the_audit_log_waits_for_its_disk(here: Site) -> None:
    """Boots are served by the same event loop; a stranger without a token must not make it wait for a slow disk."""
    app = operator_app.create(here.service, by_token(here.service))

    async def run(freed: threading.Event) -> Reply:
        asked = asyncio.create_task(ask(app, "GET", "/v1/hosts", peer=PEER))
        await asyncio.sleep(0)  # it has got as far as it can
        assert not freed.is_set() and not asked.done()
        freed.set()
        return await asked

    began = time.monotonic()
    with disk_that_waits(here) as freed:
        assert asyncio.run(run(freed)).status == 401
    assert time.monotonic() - began < 15
    assert here.audit("login-failed")


def showing(app: Guard, token: str) -> Guard:
    """The application, of which every request shows this token."""

    async def entry(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*scope["headers"], (b"authorization", f"Bearer {token}".encode())]
        await app({**scope, "headers": headers}, receive, send)

    return Guard(app.app, entry)


@pytest.mark.parametrize("kind", ["made up", "revoked", "expired", "of other hosts"])
def test_no_route_gives_a_byte_of_a_host_to_a_token_that_is_not_for_it(here: Site, kind: str) -> None:
    """Every route of the API, downloads too, with a real token: it has ended, or is good for hosts in another rack."""
    other = {"rack": "elsewhere"} if kind == "of other hosts" else {}
    here.window(boots=9)
    revision = begin(here)
    token = here.service.tokens.create(NewToken(name="x", role=PrincipalRole.ADMIN, days=1, selector=other), ROOT).token
    if kind == "made up":
        token = "provision_" + "A" * 43
    elif kind == "revoked":
        here.service.tokens.revoke("x", ROOT)
    elif kind == "expired":
        here.clock.advance(days=2)
    before = [one for one in here.audit() if one["event"] in CHANGES]
    replies = walk(showing(operator_app.create(here.service, by_token(here.service)), token), here, revision, PEER)
    # A path's own words come again in what is said of them.
    forms = [*secret_forms(here), MAC1.encode(), IP[MAC1].encode(), revision.encode()]
    assert len(replies) > 150
    told = {asked.split(" ")[1] for asked, reply in replies if leaks(forms, reply.body, reply.headers)}
    assert told <= ({"/v1/openapi.json"} if other else set()), "whose examples have the same addresses"
    if not other:
        assert {reply.status for _, reply in replies} <= {401, 429}
    assert [one for one in here.audit() if one["event"] in CHANGES and one.get("host") == "node1"] == [
        one for one in before if one.get("host") == "node1"
    ]
