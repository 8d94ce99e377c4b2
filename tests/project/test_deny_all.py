"""With policy set to deny everything, no route of any application and no TFTP path gives away a byte of a secret.

The routes are taken from the applications themselves: a new one is asked too, or its parameter fails the test.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.routing import Route
from starlette.types import Scope

from provision import boot_paths
from provision.boot_paths import Place
from provision.errors import Denied, ProvisionError
from provision.principal import Principal
from provision.service.selections import Action
from provision.tftp import handler as tftp
from provision.tftp.packet import TftpError
from provision.tftp.server import TftpRequest
from provision.web import boot_app
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import Authenticate, by_peer_credentials
from provision.web.pages import app as pages_app
from provision.web.pages import selection
from provision.web.pages.session import by_session
from tests.helpers.browser import OURS, PEER, logged_in
from tests.helpers.links import BMC, make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    GENERAL,
    IP,
    MAC1,
    MAC2,
    MANAGEMENT,
    READS_AGAIN,
    STRANGER,
    Reply,
    Site,
    ask,
    boot_iso,
    charged,
    deny_all,
    edge,
    everything,
    leaks,
    origin,
    secret_forms,
    site,
    sources,
)

PARAMETERS = {
    "pxelinux": [f"01-{MAC1.replace(':', '-')}", "12345678-1234-1234-1234-123456789abc", "default"],
    "loader": ["lpxelinux.0", "key"],
    "base": ["{base}"],
    "number": ["0", "1"],
    "revision": ["{revision}", "current", "0" * 64],
    "host": ["node1"],
    "name": ["node1"],
    "medium": ["iso", "disk", "pxe"],
    "credential": ["token"],
    "image": ["base"],
    "access": ["ci"],
    "receiver": ["desk"],
    "file": ["style.css"],
    "nonce": ["0" * 32],
    **{kind: ["0" * 12] for kind in ("link", "operation", "batch")},
}
"""What stands for each parameter of a path; {base} and {revision} are those of a boot that has begun."""

_OF_IMAGES = ("", "/verify", "/revoke", "/unified", "/unified/request")
SPECIAL = {
    ("/v1/webhooks/{name}/test", "name"): "receiver",
    ("/v1/webhooks/{name}/replay", "name"): "receiver",
    ("/pxe/pxelinux.cfg/{name}", "name"): "pxelinux",
    ("/pxe/{name}", "name"): "loader",
    ("/v1/hosts/{host}/credentials/{name}", "name"): "credential",
    **{(f"/v1/images/{{name}}{of}", "name"): "image" for of in _OF_IMAGES},
    ("/v1/tokens/{name}", "name"): "access",
    ("/tokens/{name}/revoke", "name"): "access",
}

TFTP_PATHS = [
    f"pxelinux.cfg/01-{MAC1.replace(':', '-')}",
    "pxelinux.cfg/12345678-1234-1234-1234-123456789abc",
    "grub/grub.cfg",
    "grub/uuid/12345678-1234-1234-1234-123456789abc.cfg",
    "boot/{base}/kernel",
    "boot/{base}/initrd/0",
    "boot/seed/{revision}/seed.cpio",
    "boot/seed/current/seed.cpio",
    "shimx64.efi",
    "key",
]

HEADERS: list[dict[str, str]] = [{}, {"range": "bytes=262000-400000"}, {"range": "bytes=-1000"}]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A site in the middle of boots: seeds were made, and media are in memory."""
    with site(tmp_path, READS_AGAIN) as opened:
        opened.window(boots=9)
        yield opened


def begin(here: Site) -> str:
    """Begin a PXE boot and make every medium of node1; the revision of its seed."""
    from provision.boot import Medium

    netboot, media = here.service.netboot, here.service.media
    charged(netboot.seed(origin(), None))
    config = netboot.pxelinux_config(origin(), MAC1).decode()
    boot_iso(netboot, origin(), 0, everything)
    for medium in (Medium.ISO, Medium.DISK):
        media.digests.of(media.plan("node1", medium, ROOT))
    return config.split("/boot/seed/")[1].split("/")[0]


def paths_of(route: Route, here: Site, revision: str) -> list[str]:
    found = [route.path]
    for name in re.findall(r"{(\w+)(?::\w+)?}", route.path):
        values = PARAMETERS[SPECIAL.get((route.path, name), name)]
        found = [path.replace(f"{{{name}}}", value, 1) for path in found for value in values]
    return [path.replace("{base}", here.base.id).replace("{revision}", revision) for path in found]


def body_of(method: str, path: str) -> bytes:
    """A body that the route takes, so that it does all that it can."""
    files = [{"name": s.name, "text": b64encode(s.text).decode()} for s in sources()]
    bodies: dict[str, Any] = {
        "/v1/inventory": {"files": files, "prune": True, "confirmed": True},
        "/v1/credentials": [{"host": "node1", "name": "token", "data": b64encode(CANARY).decode()}],
        "/v1/hosts/node1/links": {"medium": "iso", "uses": 9},
        "/up": {"host": "node1", "key": "00" * 32},
        "/v1/hosts/node1/bmc": {"url": "https://127.0.0.1:9", "user": "root", "password": b64encode(CANARY).decode()},
        "/v1/hosts/node1/power": {"action": "on"},
        "/v1/hosts/node1/replace-mac": {"old": "mgmt", "new": "52:54:00:00:00:11"},
        "/v1/hosts/node1/move": {"macs": ["52:54:00:00:00:11"]},
        "/v1/hosts/node1/boot": {"via": "cd"},
        "/v1/hosts/node1/decommission": {"lost": True},
        "/v1/tokens": {"name": "ci", "role": "reader"},
        **{f"/v1/hosts/node1/tpm/{act}": {"fingerprint": "0" * 64} for act in ("accept", "reject")},
        "/v1/webhooks/desk/replay": {"first": 1},
        "/v1/rollout": {"base": "base"},
        "/v1/site-keys": {"use": "signing"},
        "/v1/images/base": {"kernel": "0" * 32, "initrds": ["0" * 32]},
    }
    if method == "PUT" and path not in bodies:
        return CANARY
    return json.dumps(bodies.get(path, {})).encode() if method in ("POST", "PUT") else b""


LAST = (
    *("/v1/hosts/{name}/compromised", "/v1/hosts/{name}/decommission", "/v1/hosts/{name}/replace-mac"),
    "/v1/hosts/{name}/move",
)
"""What leaves nothing that policy could give."""


def routes(app: Guard) -> list[Route]:
    """The routes in an order in which what removes things comes last."""
    found = [route for route in app.app.routes if isinstance(route, Route)]
    assert len(found) == len(app.app.routes), "a route of a kind that is not walked"
    return sorted(found, key=lambda route: "DELETE" in methods(route) or route.path in LAST)


def methods(route: Route) -> set[str]:
    return set(route.methods or ())


def walk(app: Guard, here: Site, revision: str, peer: str) -> list[tuple[str, Reply]]:
    async def all_of_them() -> list[tuple[str, Reply]]:
        replies = []
        for route in routes(app):
            for path in paths_of(route, here, revision):
                for method in sorted(methods(route) | {"HEAD"}):
                    for headers in HEADERS:
                        reply = await ask(app, method, path, headers=headers, body=body_of(method, path), peer=peer)
                        replies.append((f"{method} {path}", reply))
        return replies

    return asyncio.run(all_of_them())


LAST_PAGES = ("/logout", "/tokens/{name}/revoke", "/hosts/{name}/compromised")
"""What leaves nothing to look at for those behind it."""
FIELDS = {
    "/login": {"token": "provision_" + "A" * 43},
    "/hosts/node1/links": {"medium": "iso"},
    "/unknown/adopt": {"mac": STRANGER, "network": "mgmt", "name": "node9"},
    "/inventory": {"text": sources()[0].text.decode()},
    "/hosts/node1/bmc": {"url": "https://127.0.0.1:9", "user": "root", "password": CANARY.decode()},
    "/selection": {
        "action": "link-iso",
        "hosts": "node1 node2",
        "seen": selection.fingerprint(Action.LINK_ISO, ("node1", "node2")),
    },
    "/tokens": {"name": "ci", "role": "reader"},
    "/rollout": {"base": "base"},
}
"""What the forms of the pages are sent with, so that they do all that they can."""


def page_walk(here: Site, authenticate: Authenticate, cookie: str = "") -> list[tuple[str, Reply]]:
    """Every page, with the forms that it takes as a browser sends them."""
    app = pages_app.create(here.service, authenticate)
    shown = cookie.partition("=")[2].encode() or None
    headers = {**OURS, **({"cookie": cookie} if cookie else {})}

    async def all_of_them() -> list[tuple[str, Reply]]:
        replies = []
        for route in sorted(routes(app), key=lambda route: route.path in LAST_PAGES):
            for path in paths_of(route, here, ""):
                for method in sorted(methods(route)):
                    fields = {"key": here.service.sessions.form_key(shown), **FIELDS.get(path, {})}
                    body = urlencode(fields).encode() if method == "POST" else b""
                    # Pages are sent whole; parts are of media.
                    for given in HEADERS if "/media/" in path else HEADERS[:1]:
                        reply = await ask(app, method, path, headers={**headers, **given}, body=body, peer=PEER)
                        replies.append((f"{method} {path}", reply))
        return replies

    return asyncio.run(all_of_them())


def tftp_walk(here: Site, revision: str, general: bool) -> list[tuple[str, bytes]]:
    """Content or error text of every TFTP path."""
    serve = tftp.handler(here.service.netboot, edge(GENERAL, {"10.1.0.11": MAC1}) if general else edge())

    async def one(path: str) -> bytes:
        try:
            answer = await serve(TftpRequest(path, IPv4Address("10.1.0.11" if general else IP[MAC1]), {}))
        except (ProvisionError, TftpError) as error:
            return f"{error!r} {error} {error.__dict__}".encode()
        try:
            return answer.content.read(0, answer.content.size)
        finally:
            answer.content.close()

    async def all_of_them() -> list[tuple[str, bytes]]:
        paths = [path.format(base=here.base.id, revision=revision) for path in TFTP_PATHS]
        return [(path, await one(path)) for path in paths]

    return asyncio.run(all_of_them())


def applications(here: Site) -> list[tuple[str, Guard, str]]:
    """Every application that listens anywhere, and a peer that would be released something by it."""
    return [
        ("management", boot_app.create(here.service.netboot, edge()), IP[MAC1]),
        ("general", boot_app.create(here.service.netboot, edge(GENERAL, {"10.1.0.11": MAC1})), "10.1.0.11"),
        ("operator", operator_app.create(here.service, by_peer_credentials), "uid=0"),
    ]


def test_no_route_gives_a_secret_when_policy_denies(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    revision = begin(here)
    forms = secret_forms(here)
    with deny_all():
        for name, app, peer in applications(here):
            replies = walk(app, here, revision, peer)
            found = {
                asked for asked, reply in replies if leaks(forms, reply.body, reply.headers, reply.error, reply.status)
            }
            assert found == set(), name
            assert not any(reply.status >= 500 for _, reply in replies), [a for a, r in replies if r.status >= 500]
        pages = page_walk(here, lambda _: ROOT)
        assert {asked for asked, reply in pages if leaks(forms, reply.body, reply.headers, reply.error)} == set()
        assert [asked for asked, reply in pages if reply.status >= 500] == []
        for general in (False, True):
            assert {path for path, data in tftp_walk(here, revision, general) if leaks(forms, data)} == set()
    assert leaks(forms, caplog.text, (here.state / "audit.log").read_bytes()) == []


def nobody(_: Scope) -> Principal:
    raise Denied("request", "nobody is known here", "")


def test_no_route_gives_a_byte_when_nobody_is_known(here: Site) -> None:
    """Whatever a route does by itself: who is not authenticated gets the refusal, and nothing has happened."""
    revision = begin(here)
    forms = [*secret_forms(here), b"node1", MAC1.encode()]
    before = [file.read_bytes() for file in (here.state / "audit.log", here.state / "provision.db")]
    replies = walk(operator_app.create(here.service, nobody), here, revision, "uid=0")
    assert len(replies) > 150 and {reply.status for _, reply in replies} == {403}
    assert {reply.headers["content-type"] for _, reply in replies} == {"application/problem+json"}
    assert {asked for asked, reply in replies if leaks(forms, reply.body, reply.headers)} == set()
    assert len({reply.body for _, reply in replies}) == 1
    assert [file.read_bytes() for file in (here.state / "audit.log", here.state / "provision.db")] == before


OPEN = {
    *("GET /login", "HEAD /login", "POST /login", "POST /login/ticket"),
    *("GET /static/style.css", "HEAD /static/style.css"),
}


@pytest.mark.parametrize("kind", ["logged out", "idle", "two"])
def test_no_page_gives_a_byte_without_a_session(here: Site, kind: str) -> None:
    """(test_served.py has those whose token has ended, and who have none.)"""
    revision = begin(here)
    forms = [*secret_forms(here), b"node1", MAC1.encode(), b"mgmt", revision.encode()]
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    browser = logged_in(here, name="gone")
    cookie = browser.cookie
    assert browser.get("/hosts/node1").status == 200
    if kind == "two":
        cookie = f"{cookie}; {cookie}"
    elif kind == "logged out":
        browser.post("/logout")
    else:
        here.clock.advance(hours=1)
    here.service.core.store.tokens.flush(at_once=True)
    before = here.state.joinpath("provision.db").read_bytes()
    replies = page_walk(here, by_session(here.service), cookie)
    assert len(replies) > 80 and {asked for asked, reply in replies if leaks(forms, reply.body, reply.headers)} == set()
    answered = {asked for asked, reply in replies if reply.status not in (303, 401, 403, 429)}
    assert answered <= OPEN and all(r.headers.get("location", "/login") == "/login" for _, r in replies)
    assert all("set-cookie" not in reply.headers for _, reply in replies)
    assert here.state.joinpath("provision.db").read_bytes() == before


def test_pages_have_the_secret_in_media_only(here: Site) -> None:
    begin(here)
    forms = secret_forms(here)
    replies = page_walk(here, lambda _: ROOT)
    found = {asked for asked, reply in replies if leaks(forms, reply.body)}
    assert found == {"GET /hosts/node1/media/iso", "GET /hosts/node1/media/disk"}
    assert [asked for asked, reply in replies if reply.status >= 500] == []


def test_a_link_gives_nothing_when_policy_denies(here: Site) -> None:
    """It is what nobody is asked for, so it is asked for by itself, on both applications that honour it."""
    link, forms = make(here, uses=9), secret_forms(here)
    served = edge(replace(MANAGEMENT, links=True))
    applications = [
        (operator_app.create(here.service, nobody), "https"),
        (boot_app.create(here.service.netboot, served, here.service), "http"),
    ]
    for app, scheme in applications:
        with deny_all():
            for method in ("GET", "HEAD"):
                for headers in HEADERS:
                    reply = asyncio.run(ask(app, method, link.path, headers=headers, peer=BMC, scheme=scheme))
                    assert reply.status == 403 and leaks(forms, reply.body, reply.headers) == []
        reply = asyncio.run(ask(app, "GET", link.path, peer=BMC, scheme=scheme))
        assert reply.status == 200 and leaks([CANARY], reply.body) == [CANARY]


def test_the_same_walk_finds_the_secret_when_policy_releases_it(here: Site) -> None:
    revision = begin(here)
    forms = secret_forms(here)
    found = {}
    for name, app, peer in applications(here):
        replies = walk(app, here, revision, peer)
        found[name] = {asked.split("?")[0] for asked, reply in replies if leaks(forms, reply.body)}
    seed = {"GET /boot/seed/current/seed.cpio", f"GET /boot/seed/{revision}/seed.cpio", "GET /http-boot/boot.iso"}
    assert found["management"] == seed
    assert found["general"] == set()
    expected = {f"GET /v1/hosts/node1/{medium}" for medium in ("iso", "disk", "disk/patch")}
    assert found["operator"] == expected


def test_the_same_walk_finds_the_secret_over_tftp(here: Site) -> None:
    revision = begin(here)
    forms = secret_forms(here)
    found = {path for path, data in tftp_walk(here, revision, False) if leaks(forms, data)}
    assert found == {"boot/seed/current/seed.cpio", f"boot/seed/{revision}/seed.cpio"}
    assert not any(leaks(forms, data) for _, data in tftp_walk(here, revision, True))


def test_every_tftp_route_has_a_path_here(here: Site) -> None:
    paths = [path.format(base=here.base.id, revision="0" * 64) for path in TFTP_PATHS]
    assert {type(boot_paths.parse(Place.TFTP, path)) for path in paths} == boot_paths.kinds(Place.TFTP)


def test_a_leak_is_seen(here: Site) -> None:
    forms = secret_forms(here)
    key = here.service.core.store.keys.phone_home(3, "node2").reveal()
    encoded = b64encode(b"ab" + CANARY + b"cd"), b64encode(b"a" + CANARY)
    places: list[Any] = [b"x" + CANARY, {"x": CANARY.hex()}, *encoded, key, key.hex(), ValueError(CANARY.decode())]
    for place in places:
        assert leaks(forms, place), place
    assert not leaks(forms, b"harmless", MAC2)
