"""Whoever sees some hosts only: nothing that happens to another host changes a byte of what they are shown."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provision.api.bmc import ChangePower, NewBmc, PowerAction
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service.listeners import Listening
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.pages import app as pages_app
from tests.helpers.browser import OURS, PEER
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    INVENTORY,
    MAC3,
    STRANGER,
    Site,
    ask,
    charged,
    origin,
    seed_url,
    site,
)
from tests.project.test_deny_all import paths_of, routes

OTHERS = INVENTORY.replace("    netboot: never\n", "    credentials: [token]\n    labels: {rack: b}\n")
"""The site with node3 in another rack, and able to boot."""
ASKS = Principal("token:a", PrincipalRole.ADMIN, Authentication.TOKEN, (("rack", "a"),))
SEARCHES = [
    "/hosts?search=52:54",
    "/hosts?search=node",
    "/hosts?label=rack",
    "/hosts?label=rack&value=b",
    "/hosts?first=2",
]
_OTHER = ("/docs", "audit", "/media/", "/iso", "/disk", "openapi", "events")
_KEY = re.compile(rb'[0-9a-f]{64}|(?<=name="once" value=")[^"]+')


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, OTHERS) as opened:
        opened.secret("node3", b"token-of-node3")
        opened.service.listeners = lambda: {"mgmt": Listening("served", True)}
        yield opened


def applications(here: Site) -> list[Guard]:
    return [create(here.service, lambda _: ASKS) for create in (operator_app.create, pages_app.create)]


def shown(here: Site) -> dict[str, tuple[int, bytes]]:
    """All that is shown to whoever asks for it, of every route; media, and the log, whose numbers are of the site,
    aside."""

    async def all_of_it() -> dict[str, tuple[int, bytes]]:
        found = {}
        for app in applications(here):
            paths = [
                path
                for route in routes(app)
                if "GET" in (route.methods or ())
                for path in paths_of(route, here, "0" * 64)
            ]
            for path in [*paths, *(SEARCHES if "/hosts" in paths else [])]:
                if any(word in path for word in _OTHER):
                    continue
                reply = await ask(app, "GET", path, headers=OURS, peer=PEER)
                found[path] = reply.status, _KEY.sub(b"", reply.body)
        return found

    return asyncio.run(all_of_it())


def boots(here: Site) -> None:
    here.window("node3")
    charged(here.service.netboot.seed(origin(MAC3), seed_url(here, MAC3)))


def switches(here: Site) -> None:
    order = NewBmc.model_construct(
        url="https://127.0.0.1:9", user="u", password=b"p", ca="", fingerprint="ab" * 32, system=""
    )
    here.service.bmcs.put("node3", order, ROOT)
    here.service.bmcs.change_power("node3", ChangePower(action=PowerAction.ON), ROOT)


HAPPENS: dict[str, Callable[[Site], object]] = {
    "a window": lambda here: here.window("node3"),
    "a boot": boots,
    "a link": lambda here: make(here, "node3"),
    "an alert": lambda here: here.service.core.alerts.raise_("node3", "seed-read-again", "an alert", here.clock()),
    "a switch": switches,
    "a credential": lambda here: here.secret("node3", b"another token"),
    "an unknown machine": lambda here: here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock()),
    "its end": lambda here: here.apply(OTHERS[: OTHERS.index("  node3:")]),
}


@pytest.mark.parametrize("what", HAPPENS)
def test_nothing_of_another_host_shows(here: Site, what: str) -> None:
    before = shown(here)
    assert b"node1" in before["/hosts"][1] and b"node1" in before["/v1/hosts"][1]
    assert {path for path, (_, body) in before.items() if b"node3" in body or MAC3.encode() in body} == set()
    HAPPENS[what](here)
    after = shown(here)
    assert {path for path in before if before[path] != after[path]} == set()


def test_another_host_is_as_one_that_is_not_there(here: Site) -> None:
    """The same answer for a host that is not seen and for none, whatever is asked of it."""

    async def both() -> None:
        boots(here)
        for app in applications(here):
            for route in routes(app):
                for path in (path for path in paths_of(route, here, "0" * 64) if "node1" in path):
                    for method in sorted(route.methods or ()):
                        replies = []
                        for name in ("node3", "node9"):
                            asked = path.replace("node1", name)
                            body = b"key=" + here.service.sessions.form_key(None).encode()
                            json = {"content-type": "application/json"} if path.startswith("/v1/") else {}
                            reply = await ask(
                                app,
                                method,
                                asked,
                                headers={**OURS, **json},
                                body=(b"{}" if json else body) if method in ("POST", "PUT") else b"",
                                peer=PEER,
                            )
                            replies.append((reply.status, reply.body.replace(name.encode(), b"node")))
                        assert replies[0] == replies[1], (method, path)

    asyncio.run(both())
