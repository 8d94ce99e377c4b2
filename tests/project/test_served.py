"""What operators' listeners serve, put together as `provision serve` does it, asked for everything by who has no right.

Each path is asked for as it is, and with slashes too many, which some layers take for one and others do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from provision.principal import PrincipalRole
from provision.server.run import apis_of, on_unix_sockets
from provision.service.service import Service
from provision.settings import Api, Metrics, Proxy
from provision.store.keys import create_key
from provision.tls.kept import Certificates
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from provision.web.pages import app as pages_app
from provision.web.protocol import EXCHANGE
from provision.web.servers import Servers
from tests.helpers.browser import HOST, OURS, PEER, logged_in, pages_of, token
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    MAC1,
    READS_AGAIN,
    STRANGER,
    Clock,
    Reply,
    Site,
    ask,
    leaks,
    make_base,
    secret_forms,
    settings,
)
from tests.project.test_deny_all import OPEN, begin, body_of, methods, paths_of, routes

SHOWN = b"the certificate of the proxy"
PROXY = Proxy(port=9443, addresses=(IPv4Address("192.0.2.2"),), certificate=Path("proxy.pem"))
API = Api(
    address=IPv4Address("192.0.2.1"), certificate=Path("c.pem"), key=Path("k.pem"), names=(HOST[:-5],), proxy=PROXY
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site in the middle of boots, with all listeners for operators that there can be."""
    monkeypatch.setattr(Certificates, "client", SHOWN)
    state, clock = tmp_path / "state", Clock()
    state.mkdir(mode=0o700)
    base = make_base(state)
    create_key(state)
    service = Service.open(settings(state, api=API, metrics=Metrics(socket=tmp_path / "metrics")), clock)
    try:
        opened = Site(state, service, clock, base)
        opened.apply(READS_AGAIN)
        opened.secret("node1", CANARY)
        opened.window(boots=9)
        yield opened
    finally:
        service.close()


def served(here: Site) -> dict[str, tuple[ASGIApp, str, Mapping[str, str]]]:
    """Each listener's application, with the peer and the headers of who reaches it."""
    api, proxied = (one.app for one in apis_of(here.service, Servers()))
    operator, metrics = (app for app, _, _ in on_unix_sockets(here.service))

    async def by_the_proxy(scope: Scope, receive: Receive, send: Send) -> None:
        await proxied({**scope, "extensions": {EXCHANGE: SimpleNamespace(certificate=SHOWN)}}, receive, send)

    forwarded = {**OURS, "x-forwarded-for": PEER, "x-forwarded-proto": "https"}
    return {
        "api": (api, PEER, OURS),
        "proxy": (by_the_proxy, "192.0.2.2", forwarded),
        "past the proxy": (proxied, "192.0.2.2", forwarded),
        "operator": (operator, PEER, OURS),
        "metrics": (metrics, "uid=0", {}),
        "metrics, elsewhere": (metrics, PEER, {}),
    }


def everything(here: Site) -> list[tuple[str, str, bytes]]:
    """Each method and path of the API and of the pages, with a body that it takes."""
    found = []
    key = urlencode({"key": here.service.sessions.form_key(None)}).encode()
    for create in (operator_app.create, pages_app.create):
        for route in routes(create(here.service, by_peer_credentials)):
            for path in paths_of(route, here, "0" * 64):
                for method in sorted(methods(route)):
                    body = body_of(method, path) if path.startswith("/v1/") else key if method == "POST" else b""
                    found.append((method, path, body))
    return found


def spelled(path: str) -> list[str]:
    """The path, and how else it may be written by who hopes that layers read it differently."""
    first, _, rest = path[1:].partition("/")
    return [path, f"/{path}", f"/{first}//{rest}", f"{path}/", f"/static/..{path}"]


def asked(
    here: Site, name: str, shown: Mapping[str, str], wanted: Sequence[tuple[str, str, bytes]]
) -> list[tuple[str, Reply]]:
    async def all_of_it() -> list[tuple[str, Reply]]:
        app, peer, headers = served(here)[name]
        sent: dict[str, Any] = {"headers": {**headers, **shown}, "peer": peer, "scheme": "https"}
        return [(f"{method} {path}", await ask(app, method, path, body=body, **sent)) for method, path, body in wanted]

    return asyncio.run(all_of_it())


def shown_by(here: Site, who: str) -> dict[str, str]:
    """What somebody shows who is nobody."""
    if who == "nobody":
        return {}
    session = logged_in(here, name="gone").cookie
    text = token(here, who, days=10)
    if who == "revoked":
        here.service.tokens.revoke(who, ROOT)
        here.service.tokens.revoke("gone", ROOT)
    elif who == "expired":
        here.clock.advance(days=91)
    else:
        text, session = f"provision_{'A' * 43}", f"{session.partition('=')[0]}={'A' * 43}"
    return {"authorization": f"Bearer {text}", "cookie": session}


@pytest.mark.parametrize(
    ("name", "who"), [("api", "nobody"), ("api", "revoked"), ("proxy", "made-up"), ("proxy", "expired")]
)
def test_no_spelling_of_a_path_gives_a_byte_to_nobody(here: Site, name: str, who: str) -> None:
    """Over TLS and through the proxy: a token and a cookie that are good for nothing any more, shown together."""
    revision = begin(here)
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    forms = [*secret_forms(here), b"node1", MAC1.encode(), b"mgmt", revision.encode()]
    headers = shown_by(here, who)
    here.service.core.store.tokens.flush(at_once=True)
    before = here.state.joinpath("provision.db").read_bytes()
    spellings = spelled if who == "nobody" else lambda path: [path, f"/{path}"]
    wanted = [(method, path, body) for method, plain, body in everything(here) for path in spellings(plain)]
    replies = asked(here, name, headers, wanted)
    assert {said for said, reply in replies if leaks(forms, reply.body, reply.headers)} == set()
    answered = {said.replace("//", "/").removesuffix("/") for said, reply in replies if reply.status < 300}
    assert answered <= OPEN and "GET /login" in answered
    assert [said for said, reply in replies if reply.status >= 500] == []
    assert {reply.headers["location"] for _, reply in replies if "location" in reply.headers} <= {"/login"}
    assert here.state.joinpath("provision.db").read_bytes() == before


def test_a_token_of_another_scope_gives_nothing_of_the_host(here: Site) -> None:
    """With the real ids of its link, its operation and its batch, for all that the strongest role may ask."""
    revision = begin(here)
    text = token(here, "other", PrincipalRole.ADMIN, selector={"rack": "b"})
    ids = of_node1(here)
    wanted = [(method, real, body) for method, path, body in everything(here) for real in with_ids(path, ids)]
    browser = logged_in(here, name="page", selector={"rack": "b"}, app=pages_of(here))
    headers = {"authorization": f"Bearer {text}", "cookie": browser.cookie}
    # Events of the site have no end, and what comes in them is what the pages have; the description has examples.
    left_out = ("/logout", "/events", "/site/events", "/rollout/events", "/docs", "/docs/api.json", "/v1/openapi.json")
    wanted = [one for one in wanted if one[1] not in left_out]
    keyed = [
        (m, p, urlencode({"key": browser.key}).encode() if b and not p.startswith("/v1/") else b) for m, p, b in wanted
    ]
    forms = [*secret_forms(here), MAC1.encode(), revision.encode(), b"of a test"]
    replies = asked(here, "api", headers, keyed)
    assert {said for said, reply in replies if leaks(forms, reply.body, reply.headers)} == set()
    assert "node1" in here.service.core.hosts and here.service.links.listing(ROOT)[0].state == "good"
    for what, id_ in ids.items():
        found = [reply.status for said, reply in replies if id_ in said]
        assert len(found) >= 2 and set(found) <= {403, 404, 405}, what
    assert any(reply.status == 200 for _, reply in replies)


def of_node1(here: Site) -> dict[str, str]:
    """A link, an operation and a batch of node1."""
    operation = here.service.operations.begin("of a test", "node1", ROOT, lambda _: None)
    batch = here.service.batches.begin("of a test", ["node1"], lambda _: operation, ROOT)
    return {"link": make(here).id, "operation": operation.id, "batch": batch.id}


def with_ids(path: str, ids: Mapping[str, str]) -> list[str]:
    """The path with each real id, where `paths_of` has put one that there is not."""
    return [path.replace("0" * 12, id_) for id_ in ids.values()] if "/" + "0" * 12 in path + "/" else [path]


def test_a_listener_has_nothing_for_who_does_not_belong_there(here: Site) -> None:
    """The proxy's without its certificate, the Unix socket's by TCP, and all but metrics of those of the metrics."""
    begin(here)
    forms = [*secret_forms(here), b"node1", MAC1.encode()]
    good = {"authorization": f"Bearer {token(here)}"}
    listeners = {"past the proxy": 403, "operator": 403, "metrics": 404, "metrics, elsewhere": 403}
    wanted = [(method, f"/{path}", body) for method, path, body in everything(here)]
    for name, status in listeners.items():
        replies = asked(here, name, good, wanted)
        assert {said for said, reply in replies if leaks(forms, reply.body, reply.headers)} == set(), name
        others = {said: reply.status for said, reply in replies if reply.status != status}
        assert others == ({"GET //v1/metrics": 200} if name == "metrics" else {}), name
