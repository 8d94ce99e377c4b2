"""Without a service, a command does what the service would, and loads no more than that takes."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from provision.api.status import Status
from provision.cli.alone import _wait, connect
from provision.cli.client import Client
from provision.errors import Unavailable
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


def test_an_application_that_starts_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is ten seconds later than the one before."""
    started, done = threading.Event(), threading.Event()
    monkeypatch.setattr("time.monotonic", itertools.count(0, 10).__next__)
    looks = itertools.count()
    monkeypatch.setattr(started, "wait", lambda _: next(looks) == 20)
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        _wait(started, thread)
    finally:
        done.set()
        thread.join()
    assert next(looks) == 21
    with pytest.raises(Unavailable, match="did not start"):
        _wait(threading.Event(), thread)
