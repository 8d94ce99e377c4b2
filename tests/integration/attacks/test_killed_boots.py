"""Boots by a BMC whose service is killed at each step: the next one takes back what they were given."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from provision.api.bmc import BootOrder
from provision.bmc import virtual_media
from provision.service import bmc_boots
from provision.service.listeners import Listening
from provision.service.service import Service
from provision.store.links import Links
from provision.store.windows import Windows
from tests.helpers.api_site import api_site
from tests.helpers.bmc_boots import CD, PXE, at, boot, nothing_left, recover
from tests.helpers.cli_runner import cli, good
from tests.helpers.killing import kill, killed
from tests.helpers.netns import isolated, lan
from tests.helpers.principals import ROOT
from tests.helpers.redfish import PASSWORD, USER, Asked, Bmc, certificate, fingerprint, served
from tests.helpers.serving import PROVISION, Served, run, serve
from tests.helpers.site_fixture import MAC1, Site, closed_site, settings, site

LISTEN = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp_port = 6969\n'

KILLED = {
    "the medium goes in": ("cd", "POST", "InsertMedia"),
    "it is to boot once": ("cd", "PATCH", "437XR1138R2"),
    "it is switched on": ("cd", "POST", "Reset"),
    "the window is open": ("pxe", "PATCH", "437XR1138R2"),
    "it is switched on, by the network": ("pxe", "POST", "Reset"),
}


@isolated
@pytest.mark.parametrize("moment", KILLED)
def test_what_a_killed_service_gave_a_boot_is_taken_back(tmp_path: Path, moment: str) -> None:
    """kill -9 in the middle of an order, which the BMC has followed; nobody tells the next service of it."""
    way, method, end = KILLED[moment]
    made, killed = api_site(tmp_path, toml=LISTEN), threading.Event()
    (tmp_path / "password").write_text(PASSWORD)
    with served() as bmc, lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1):
        with serve(made.state) as first:
            wait_for(first)
            pin = ("--user", USER, "--password-file", tmp_path / "password", "--fingerprint")
            place = ("--url", bmc.url, *pin, fingerprint(certificate()[0]))
            assert run(made.state, "bmc", "set", "node1", *place).returncode == 0

            def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> Any:
                if (asked.method, asked.path.endswith(end)) == (method, True) and not killed.is_set():
                    bmc.answer(asked)  # it does as it was told
                    first.process.kill()
                    killed.set()
                    return 0, {}, b""
                return None

            bmc.spoils = spoil
            assert run(made.state, "boot", "node1", "--via", way).returncode != 0
            assert killed.wait(60) and first.process.wait(30) == -signal.SIGKILL
        given = bmc.drive["Image"]
        assert bool(given) is (way == "cd")
        with serve(made.state) as second:
            wait_for(second)
            deadline = time.monotonic() + 60
            while "boot-undone" not in (found := left_behind(made.state, bmc)):
                assert time.monotonic() < deadline, found
                time.sleep(0.2)
            if given:
                path = given.partition("://")[2].partition("/")[2]
                assert made.curl(f"/{path}", known=False)[0] == 404
            assert PASSWORD not in first.log + second.log and (given or PASSWORD) not in first.log + second.log


def wait_for(service: Served) -> None:
    service.wait_for("serving network 'mgmt'")
    service.wait_for("serving the operators' API at")


def left_behind(state: Path, bmc: Bmc) -> set[str]:
    """What a boot was given and still has; "boot-undone" when that is nothing."""
    rows = json.loads(run(state, "--json", "link", "list").stdout)
    (host,) = json.loads(run(state, "--json", "status", "node1").stdout)["hosts"]
    found = {"link" for row in rows if row["state"] == "good"}
    found |= {"window"} if (host["window"] or {}).get("open") else set()
    found |= {"medium"} if bmc.drive["Inserted"] else set()
    found |= {"once"} if bmc.system["Boot"]["BootSourceOverrideEnabled"] != "Disabled" else set()
    found |= {"power"} if bmc.system["PowerState"] != "Off" else set()
    return found or {"boot-undone"}


UNDONE: dict[str, tuple[BootOrder, Any, str]] = {
    "the medium is out": (CD, virtual_media, "eject"),
    "the link is revoked": (CD, Links, "revoke"),
    "the window is closed": (PXE, Windows, "close"),
}


@pytest.mark.parametrize("moment", UNDONE)
def test_what_is_half_taken_back_is_taken_back_by_the_next_service(tmp_path: Path, moment: str) -> None:
    """kill -9 on the way back from a boot that failed, when one more step is undone, and that is not recorded yet."""
    order, owner, name = UNDONE[moment]
    with served("other") as bmc:
        with site(tmp_path) as here:
            here.service.bmcs.put("node1", at(bmc), ROOT)
        refusing: list[Any] = [(500, {}, b"{}")]  # once: then it does as it is told
        bmc.spoils = lambda asked, _: refusing.pop() if asked.path.endswith("Reset") and refusing else None

        def work() -> None:
            again = opened(here)
            do, undo = getattr(owner, name), bmc_boots._Undo.run

            def die(*arguments: Any) -> None:
                do(*arguments)
                kill()

            def dying(*arguments: Any, **named: Any) -> None:
                with patch.object(owner, name, die):
                    undo(*arguments, **named)

            with patch.object(bmc_boots._Undo, "run", dying):
                boot(again, order)

        killed(work)
        again = opened(here)
        try:
            assert len(again.service.core.store.bmc_boots.all()) == 1 and not refusing
            recover(again)
            nothing_left(again, bmc)
            assert bmc.system["PowerState"] == "Off"
        finally:
            again.service.close()


def opened(here: Site) -> Site:
    """The site with a new service."""
    service = Service.open(settings(here.state), here.clock)
    service.listeners = lambda: {"mgmt": Listening("serving", True)}
    return replace(here, service=service)


def test_a_power_cycle_that_is_killed_is_said_and_not_repeated(tmp_path: Path) -> None:
    """kill -9 when the BMC has switched the machine off: nothing switches it on by itself later."""
    state, reached, dead = closed_site(tmp_path), threading.Event(), threading.Event()
    (tmp_path / "password").write_text(PASSWORD)
    with served() as bmc:
        pin = ("--password-file", tmp_path / "password", "--fingerprint", fingerprint(certificate()[0]))
        good(cli(state, "bmc", "set", "node1", "--url", bmc.url, "--user", USER, *pin))
        bmc.system["PowerState"] = "On"

        def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> Any:
            if asked.method != "POST":
                return None
            bmc.answer(asked)  # it does as it was told
            reached.set()
            assert dead.wait(60)
            return 0, {}, b""

        bmc.spoils = spoil
        with subprocess.Popen([*PROVISION, "--state", str(state), "power", "node1", "cycle", "--force"]) as process:
            assert reached.wait(60)
            process.kill()
        dead.set()
        assert process.returncode == -signal.SIGKILL
        bmc.spoils = lambda asked, handler: None
        assert good(cli(state, "power", "node1", "status")).out == "node1: the machine is off\n"
        assert len(bmc.orders("POST")) == 1
        (said,) = [entry for entry in good(cli(state, "audit", "--json")).json if entry["event"] == "recovered"]
        assert (said["subject"], said["rule"]) == ("power-changed", "unfinished")
        assert "look at whether it happened" in said["reason"] and PASSWORD not in json.dumps(said)
        good(cli(state, "power", "node1", "on"))
        assert bmc.system["PowerState"] == "On"
