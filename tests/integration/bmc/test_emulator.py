"""Boots by a BMC that somebody else has written (sushy-emulator): from powered off to up, cancelled, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.netns import Peer, isolated, lan
from tests.helpers.redfish import PASSWORD, USER, certificate, fingerprint
from tests.helpers.serving import PROVISION, Served, run, serve
from tests.helpers.site_fixture import CANARY, MAC1, closed_site

TOML = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp_port = 6969\nlinks = true\n'
BMC, SYSTEM = "10.0.0.11", "27946b59-9e44-4fa7-8e91-f3527a1ef094"
READ = "node1: the BMC has read 100 % of its medium (seed 100 %)\n"
DRIVE = f"/redfish/v1/Systems/{SYSTEM}/VirtualMedia/Cd"


def settings(directory: Path) -> str:
    """What the emulator reads: one machine that exists in its memory only."""
    machine = {"uuid": SYSTEM, "name": "node1", "power_state": "Off", "external_notifier": False}
    values = {
        "SUSHY_EMULATOR_LISTEN_IP": BMC,
        "SUSHY_EMULATOR_LISTEN_PORT": 8443,
        "SUSHY_EMULATOR_SSL_CERT": str(directory / "cert"),
        "SUSHY_EMULATOR_SSL_KEY": str(directory / "key"),
        "SUSHY_EMULATOR_FAKE_DRIVER": True,
        "SUSHY_EMULATOR_STATE_DIR": str(directory),
        "SUSHY_EMULATOR_FAKE_SYSTEMS": [{**machine, "nics": [{"mac": MAC1, "ip": BMC}]}],
    }
    return "".join(f"{name} = {value!r}\n" for name, value in values.items())


def until(reached: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """What `reached` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.1)
    return found


@contextmanager
def emulator(directory: Path, machine: Peer) -> Iterator[None]:
    """The emulator beside the machine on its LAN; what it downloads is below `directory`."""
    directory.mkdir()
    cert, key = certificate()
    (directory / "cert").write_text(cert)
    (directory / "key").write_text(key)
    (directory / "settings").write_text(settings(directory))
    program = Path(sys.executable).with_name("sushy-emulator")
    argv = machine.argv(str(program), "--config", str(directory / "settings"))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(directory)})
    try:
        until(lambda: _answers(machine), "emulator")
        yield
    finally:
        process.kill()
        process.wait(30)


def _answers(machine: Peer) -> bool:
    return machine.sh(f"curl -sk https://{BMC}:8443/redfish/v1/ || true") != ""


@dataclass
class Scene:
    """A service, and a machine with a BMC on its management LAN."""

    state: Path
    machine: Peer
    served: Served
    bmc: Path

    def shown(self, path: str) -> dict[str, Any]:
        """What the BMC shows there."""
        found = json.loads(self.machine.sh(f"curl -sk https://{BMC}:8443{path}"))
        assert isinstance(found, dict)
        return found

    def downloaded(self) -> bytes:
        """The medium that the BMC has; empty while it has none."""
        found = [path for path in self.bmc.rglob("*.iso") if path.is_file()]
        return found[0].read_bytes() if found else b""

    def power(self) -> str:
        """Whether the machine runs."""
        return str(self.shown(f"/redfish/v1/Systems/{SYSTEM}")["PowerState"])

    def begin(self) -> subprocess.Popen[str]:
        """The command that boots the machine."""
        argv = [*PROVISION, "--state", str(self.state), "boot", "node1", "--via", "cd", "--watch", "--minutes", "10"]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def nothing_left(self) -> None:
        """All that was given is taken back."""
        assert not self.shown(DRIVE)["Inserted"]
        links = json.loads(run(self.state, "link", "list", "--json").stdout)
        assert [row["state"] for row in links] == ["revoked"]


@contextmanager
def scene(directory: Path) -> Iterator[Scene]:
    state = closed_site(directory, toml=TOML)
    (directory / "password").write_text(PASSWORD)
    with lan("eth1", "10.0.0.1/24", f"{BMC}/24", MAC1) as machine, serve(state) as served:
        served.wait_for("serving network 'mgmt'")
        with emulator(directory / "bmc", machine):
            place = ("--url", f"https://{BMC}:8443", "--user", USER, "--password-file", directory / "password")
            done = run(state, "bmc", "set", "node1", *place, "--fingerprint", fingerprint(certificate()[0]))
            assert done.returncode == 0, done
            yield Scene(state, machine, served, directory / "bmc")


def ended(booting: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = booting.communicate(timeout=180)
    return booting.returncode, said


@isolated
def test_from_off_to_up(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        checked = run(here.state, "bmc", "check", "node1")
        assert checked.returncode == 0 and "sushy-emulator" in checked.stdout
        booting = here.begin()
        try:
            assert booting.stdout is not None
            before = list(iter(booting.stdout.readline, READ))
            assert before[-1] == "node1: the machine is on\n"
            medium = here.downloaded()
            assert CANARY in medium, "by the link, and for this machine"
            key = medium.split(b'"key": "')[1].split(b'"')[0].decode()
            body = json.dumps({"host": "node1", "key": key})
            here.machine.sh(f"curl -sf -H 'content-type: application/json' -d '{body}' http://10.0.0.1:8080/up")
            code, said = ended(booting)
        finally:
            booting.kill()
        assert code == 0 and "node1: the host is up" in said and said.endswith("node1: up\n"), said
        assert here.power() == "On"
        here.nothing_left()


@isolated
def test_ctrl_c_takes_everything_back(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        booting = here.begin()
        try:
            until(lambda: here.power() == "On", "power")
            booting.send_signal(signal.SIGINT)
            code, said = ended(booting)
        finally:
            booting.kill()
        assert code == 130 and "cancelling operation" in said and "the machine is off again" in said, said
        assert here.power() == "Off"
        here.nothing_left()


@isolated
def test_a_killed_service_takes_everything_back_when_it_starts_again(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        booting = here.begin()
        try:
            until(here.downloaded, "medium")
            assert here.served.stop(signal.SIGKILL) == -signal.SIGKILL
            assert ended(booting)[0] != 0
        finally:
            booting.kill()
        with serve(here.state, tmp_path / "again.log"):
            until(lambda: _undone(here.state), "end of the boot that was left")
            assert here.power() == "Off"
            here.nothing_left()


def _undone(state: Path) -> bool:
    entries = json.loads(run(state, "audit", "--limit", "1000", "--json").stdout)
    return any(entry["event"] == "link-revoked" for entry in entries)
