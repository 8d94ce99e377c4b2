"""The server is ready when it can do what it is for, and says of everything else what it is."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from provision.errors import Unavailable
from provision.service.listeners import Listening
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.site_fixture import Reply, Site, request


def ready(here: Site) -> Reply:
    return request(operator_app.create(here.service, by_peer_credentials), "GET", "/v1/ready", peer="uid=0")


def test_a_server_that_can_serve_is_ready(here: Site) -> None:
    here.service.listeners = lambda: {"mgmt": Listening("served", served=True)}
    reply = ready(here)
    assert (reply.status, json.loads(reply.body)) == (200, {"ready": True})


def test_a_listener_that_is_not_served_is_named(here: Site) -> None:
    here.service.listeners = lambda: {
        "mgmt": Listening("eth1 is down", served=False),
        "[api]": Listening("served", served=True),
    }
    problem = ready(here).problem
    assert problem["status"] == 503 and "'mgmt' is not served: eth1 is down" in problem["detail"]
    assert "[api]" not in problem["detail"]


def test_all_that_is_in_the_way_comes_at_once(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    base_id = here.service.core.bases()["base"]
    monkeypatch.setitem(here.service.core.integrity._damaged, base_id, Unavailable("base", "is damaged"))
    here.clock.advance(days=1)
    here.service.core.footing.watch()
    here.clock.advance(days=-1)
    (here.state / "audit.log").rename(here.state / "gone")
    detail = ready(here).problem["detail"]
    assert all(text in detail for text in ("the clock was at", "the audit log is gone", "the image 'base' is damaged"))


@pytest.mark.parametrize(
    ("found", "fact"),
    [
        (SimpleNamespace(f_flag=0, f_bavail=0, f_frsize=4096), "has no room for another entry"),
        (
            SimpleNamespace(f_flag=os.ST_RDONLY, f_bavail=1 << 20, f_frsize=4096),
            "is on a file system that is read-only",
        ),
    ],
)
def test_a_log_that_cannot_be_written_is_seen_before_anybody_boots(
    here: Site, monkeypatch: pytest.MonkeyPatch, found: SimpleNamespace, fact: str
) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, "fstatvfs", lambda _: found)
        assert fact in ready(here).problem["detail"]
    assert ready(here).status == 200


def test_looking_changes_nothing(here: Site) -> None:
    before = here.service.core.audit.sequence, (here.state / "provision.db").read_bytes()
    assert ready(here).status == 200
    assert (here.service.core.audit.sequence, (here.state / "provision.db").read_bytes()) == before
