"""power: switched by the BMC, followed to the end, and said when it is so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import cli, failed, good
from tests.helpers.redfish import PASSWORD, USER, Bmc, certificate, fingerprint, served


@pytest.fixture
def bmc(state: Path, tmp_path: Path) -> Iterator[Bmc]:
    (tmp_path / "password").write_text(PASSWORD)
    with served("hpe") as there:
        pin = fingerprint(certificate()[0])
        place = ("--url", there.url, "--user", USER, "--password-file", tmp_path / "password", "--fingerprint", pin)
        good(cli(state, "bmc", "set", "node1", *place))
        yield there


def test_on_off_cycle_status(state: Path, bmc: Bmc) -> None:
    assert good(cli(state, "power", "node1", "status")).out == "node1: the machine is off\n"
    assert good(cli(state, "power", "node1", "on")).out == "node1: the machine is on\n"
    assert good(cli(state, "power", "node1", "status", "--json")).json == {"host": "node1", "power": "on"}
    done = good(cli(state, "power", "node1", "cycle", "--force", "--json")).json
    assert done["steps"] == ["the machine is off", "the machine is on"] and done["state"] == "done"
    assert [body["ResetType"] for _, body in bmc.orders("POST")] == ["On", "ForceOff", "On"]
    entries = good(cli(state, "audit", "--json")).json
    events = {(entry["event"], entry.get("kind")) for entry in entries if entry["event"] == "power-changed"}
    assert events == {("power-changed", "on"), ("power-changed", "cycle, forced")}


def test_what_fails_is_said(state: Path, bmc: Bmc) -> None:
    bmc.spoils = lambda asked, _: (503, {}, b"{}") if asked.method == "POST" else None
    assert "node1: BMC: answered 503" in failed(cli(state, "power", "node1", "on"), Exit.UNAVAILABLE)
    failed(cli(state, "power", "node2", "on"), Exit.NOT_FOUND)
    failed(cli(state, "power", "node2", "status"), Exit.NOT_FOUND)
    assert cli(state, "power", "node1", "explode").code == Exit.USAGE
    entries = good(cli(state, "audit", "--json")).json
    (entry,) = [entry for entry in entries if entry["event"] == "failed"]
    assert entry["subject"] == "power-changed" and "answered 503" in entry["reason"]
