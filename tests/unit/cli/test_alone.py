"""Without a service, a command does what the service would, and loads no more than that takes."""

from __future__ import annotations

from pathlib import Path

from provision.api.status import Status
from provision.cli.alone import connect
from provision.cli.client import Client
from provision.settings import load
from tests.helpers.loading import HEAVY, STORE, WEB, loaded
from tests.helpers.site_fixture import closed_site


def test_status_without_a_service_loads_the_store_alone(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    assert loaded("--state", state, "status") & HEAVY == STORE
    assert WEB & loaded("--state", state, "host", "list"), "what is not status goes through the application"


def test_status_says_the_same_with_and_without_the_application(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    with connect(load(state, state / "provision.toml")) as client:
        for parameters in ({}, {"host": "node1"}):
            direct = client.call(Status, "GET", "/v1/status", params=parameters)
            assert direct.hosts
            assert direct == Client.call(client, Status, "GET", "/v1/status", params=parameters)
