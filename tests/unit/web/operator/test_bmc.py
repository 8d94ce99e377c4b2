"""Routes of BMCs and operations: nothing is echoed, work is answered at once, and its end is waited for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.service.operations import Running
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.principals import ROOT
from tests.helpers.redfish import PASSWORD, USER, Bmc, certificate, fingerprint, served
from tests.helpers.site_fixture import Reply, Site, ask, request, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


@pytest.fixture
def app(here: Site) -> Guard:
    return operator_app.create(here.service, by_peer_credentials)


@pytest.fixture
def bmc() -> Iterator[Bmc]:
    with served("hpe") as there:
        yield there


def call(app: Guard, method: str, path: str, body: Any = None) -> Reply:
    data = b"" if body is None else json.dumps(body).encode()
    return request(app, method, path, body=data, peer="uid=0", headers={"content-type": "application/json"})


def order(bmc: Bmc, **fields: Any) -> dict[str, Any]:
    word = b64encode(PASSWORD.encode()).decode()
    return {"url": bmc.url, "user": USER, "password": word, "fingerprint": fingerprint(certificate()[0]), **fields}


def test_a_life(app: Guard, bmc: Bmc) -> None:
    put = call(app, "PUT", "/v1/hosts/node1/bmc", order(bmc))
    assert put.status == 200 and json.loads(call(app, "GET", "/v1/hosts/node1/bmc").body) == json.loads(put.body)
    assert json.loads(call(app, "POST", "/v1/hosts/node1/bmc/check").body)["vendor"] == "HPE iLO"
    begun = call(app, "POST", "/v1/hosts/node1/power", {"action": "on"})
    assert begun.status == 202
    name = json.loads(begun.body)["id"]
    done = json.loads(call(app, "GET", f"/v1/operations/{name}?wait=60").body)
    assert (done["state"], done["steps"]) == ("done", ["the machine is on"])
    assert json.loads(call(app, "GET", "/v1/hosts/node1/power").body) == {"host": "node1", "power": "on"}
    assert [row["id"] for row in json.loads(call(app, "GET", "/v1/operations").body)] == [name]
    assert call(app, "DELETE", f"/v1/operations/{name}").status == 204
    assert call(app, "DELETE", "/v1/hosts/node1/bmc").status == 204
    assert call(app, "GET", "/v1/hosts/node1/bmc").problem["status"] == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"password": PASSWORD},
        {"password": PASSWORD + "!"},
        {"secret": PASSWORD},
        {"url": f"https://root:{PASSWORD}@10.0.0.1"},
        {"url": [PASSWORD]},
        {"ca": PASSWORD},
        {"user": f"{PASSWORD}:"},
        {"fingerprint": PASSWORD},
        {"system": f"/{PASSWORD}"},
    ],
)
def test_what_is_refused_is_not_repeated(app: Guard, bmc: Bmc, fields: dict[str, Any]) -> None:
    reply = call(app, "PUT", "/v1/hosts/node1/bmc", order(bmc, **fields))
    assert reply.problem["status"] == 422 and PASSWORD.encode() not in reply.body
    assert call(app, "GET", "/v1/hosts/node1/bmc").status == 404


@pytest.mark.parametrize("path", ["0" * 11, "0" * 13, "X" * 12, "0" * 12 + "?wait=61", "0" * 12 + "?wait=-1"])
def test_what_is_no_operation(app: Guard, path: str) -> None:
    assert call(app, "GET", f"/v1/operations/{path}").problem["status"] == 422
    assert call(app, "GET", f"/v1/operations/{'0' * 12}").problem["status"] == 404


def test_whoever_waits_hears_of_news_at_once_and_keeps_nobody_waiting(here: Site, app: Guard) -> None:
    go = threading.Event()

    def work(running: Running) -> None:
        running.say("first")
        go.wait(60)
        running.say("second")
        running.pause(3600)

    name = here.service.operations.begin("test", "node1", ROOT, work).id

    async def both() -> tuple[Reply, float]:
        began = time.monotonic()
        path = f"/v1/operations/{name}?wait=60&steps=1"
        waiting = asyncio.create_task(ask(app, "GET", path, peer="uid=0"))
        other = await ask(app, "GET", f"/v1/operations/{name}", peer="uid=0")
        assert json.loads(other.body)["steps"] == ["first"]
        go.set()
        return await waiting, time.monotonic() - began

    while not here.service.operations.get(name, ROOT).steps:
        time.sleep(0.01)
    reply, seconds = asyncio.run(both())
    assert json.loads(reply.body)["steps"] == ["first", "second"] and seconds < 30
    assert call(app, "DELETE", f"/v1/operations/{name}").status == 204
    assert json.loads(call(app, "GET", f"/v1/operations/{name}?wait=60").body)["state"] == "failed"
