"""The running service: its operator's socket, its lock, its end, and networks that come and go."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import cli
from tests.helpers.netns import Peer, isolated, lan, sh
from tests.helpers.serving import run, serve
from tests.helpers.site_fixture import CANARY, INVENTORY, MAC1, closed_site

LOCAL = ""
"""Settings with no network: only the operator's socket is served."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return closed_site(tmp_path, toml=LOCAL)


def test_the_command_line_does_the_same_with_and_without_a_service(state: Path, tmp_path: Path) -> None:
    reads = [
        ("host", "list"),
        ("host", "show", "node1"),
        ("credential", "list"),
        ("image", "list"),
        ("explain", "node1"),
    ]
    alone = [cli(state, *command, "--json") for command in reads]
    errors = [cli(state, *command) for command in (("host", "show", "node9"), ("window", "node3"), ("dhcp",))]
    here = cli(state, "iso", "node1", "-o", tmp_path / "alone.iso", "--json").json
    with serve(state):
        assert [cli(state, *command, "--json") for command in reads] == alone
        assert [cli(state, *c) for c in (("host", "show", "node9"), ("window", "node3"), ("dhcp",))] == errors
        there = cli(state, "iso", "node1", "-o", tmp_path / "served.iso", "--json").json
        assert {**there, "file": ""} == {**here, "file": ""}
        assert (tmp_path / "served.iso").read_bytes() == (tmp_path / "alone.iso").read_bytes()
        assert cli(state, "window", "node1", "--boots", "3").code == 0
    assert cli(state, "status", "node1", "--json").json["hosts"][0]["window"]["boots"] == 3


def test_one_service_at_a_time(state: Path) -> None:
    with serve(state) as first:
        second = run(state, "serve")
        assert second.returncode == Exit.CONFLICT
        assert second.stderr.count("\n") == 1
        assert f"another provision process ({first.process.pid})" in second.stderr
        assert cli(state, "host", "list").code == 0, "the first one is not disturbed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(state: Path, number: int) -> None:
    with serve(state) as served:
        assert served.stop(number) == 0
        assert not (state / "operator.sock").exists()
        assert "Traceback" not in served.log
        assert "ERROR" not in served.log
    assert cli(state, "audit", "--verify").code == 0


def test_what_kill_leaves_is_no_obstacle(state: Path) -> None:
    with serve(state) as served:
        assert served.stop(signal.SIGKILL) == -signal.SIGKILL
    assert (state / "operator.sock").is_socket()
    assert cli(state, "host", "list").code == 0
    with serve(state):
        assert cli(state, "host", "list").code == 0


def test_no_other_file_is_taken_for_a_socket(state: Path) -> None:
    (state / "operator.sock").write_text("precious")
    ran = run(state, "serve")
    assert ran.returncode == Exit.UNAVAILABLE
    assert "another kind of file" in ran.stderr
    assert (state / "operator.sock").read_text() == "precious"


def test_the_socket_is_private_and_others_are_refused(state: Path, tmp_path: Path) -> None:
    client = (
        "import os, sys, socket\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1])\n"
        "except PermissionError: sys.exit(9)\n"
        "s.sendall(b'GET /v1/hosts/node1/iso HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "data = b''\n"
        "while part := s.recv(65536): data += part\n"
        "sys.stdout.buffer.write(data)\n"
    )
    with serve(state):
        path = state / "operator.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        argv = [sys.executable, "-c", client, str(path)]
        assert subprocess.run(argv, capture_output=True, timeout=30).returncode == 9
        # Even where the file system lets everybody in, the kernel's word about the peer keeps them out.
        for directory in (state, *state.parents):
            if directory != Path("/"):
                directory.chmod(directory.stat().st_mode | 0o011)
        path.chmod(0o666)
        refused = subprocess.run(argv, capture_output=True, timeout=30)
        assert refused.stdout.startswith(b"HTTP/1.1 403"), refused
        assert b"your user may not use this socket" in refused.stdout
        assert CANARY not in refused.stdout


def test_a_group_may_be_let_in(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml='operator_group = "nogroup"\n')
    with serve(state):
        status = (state / "operator.sock").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, 65534)
    (state / "provision.toml").write_text('operator_group = "no-such-group"\n')
    assert "there is no group no-such-group" in run(state, "serve").stderr


def test_its_memory_goes_to_no_core_file(state: Path) -> None:
    with serve(state) as served:
        assert resource.prlimit(served.process.pid, resource.RLIMIT_CORE) == (0, 0)
    code = "import ctypes; from provision.server import process; process.forbid_core_dumps(); "
    code += "print(ctypes.CDLL(None).prctl(3))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).stdout == b"0\n"


def test_systemd_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(state / "notify"))
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(state / "notify"))
        with serve(state) as served:
            assert sock.recv(100) == b"READY=1"
            served.stop()
            assert sock.recv(100) == b"STOPPING=1"


# Networks

NETWORK = '[[listen]]\nnetwork = "mgmt"\ninterface = "{interface}"\nhttp_port = 8080\ntftp_port = 6969\n'
GET = """python3 -c "import urllib.request as u; print(u.urlopen('http://10.0.0.1:8080{path}', timeout=5).read())" """


def networked(directory: Path, interface: str = "eth1", extra: str = "") -> Path:
    return closed_site(directory, toml=NETWORK.format(interface=interface) + extra)


def get(machine: Peer, path: str) -> str:
    return machine.sh(GET.format(path=path))


def health(state: Path) -> str:
    connection = http.client.HTTPConnection("provision")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(state / "operator.sock"))
    connection.request("GET", "/v1/health")
    listeners = json.loads(connection.getresponse().read())["listeners"]
    connection.close()
    return str(listeners.get("mgmt"))


def eventually(state: Path, text: str, seconds: float = 30.0) -> None:
    """Wait until the state of the listener has `text`."""
    deadline = time.monotonic() + seconds
    while text not in (now := health(state)):
        assert time.monotonic() < deadline, now
        time.sleep(0.1)


def taking(address: tuple[str, int], seconds: float = 15.0) -> socket.socket:
    """A listener on an address that is being let go: running answers have some seconds to end."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_server(address)
        except OSError:
            assert time.monotonic() < deadline, f"{address} is not let go"
            time.sleep(0.05)


@isolated
def test_an_interface_may_go_and_come_back(tmp_path: Path) -> None:
    state = networked(tmp_path)
    config = f"/pxe/pxelinux.cfg/01-{MAC1.replace(':', '-')}"
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1), serve(state) as served:
        eventually(state, "served on eth1")
        sh("ip link del eth1")
        eventually(state, "there is no interface eth1")
        with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1) as machine:
            eventually(state, "served on eth1")
            assert "window-closed" in get(machine, config)
            sh("ip addr del 10.0.0.1/24 dev eth1")
            eventually(state, "no IPv4 addresses")
            sh("ip addr add 10.0.0.1/24 dev eth1")
            eventually(state, "served on eth1")
            sh("ip link set eth1 down")
            eventually(state, "eth1 is down")
            sh("ip link set eth1 up")
            eventually(state, "served on eth1")
            assert cli(state, "window", "node1").code == 0
            assert CANARY.decode() in get(machine, "/boot/seed/current/seed.cpio")
        assert served.stop() == 0
        assert "Traceback" not in served.log


@isolated
def test_a_bridge_that_gets_an_unlisted_port_is_let_go(tmp_path: Path) -> None:
    state = networked(tmp_path, "br0", 'bridge_ports = ["eth1"]\n')
    with lan("eth1", "192.0.2.1/24", "10.0.0.11/24", MAC1) as machine:
        sh("ip addr flush dev eth1; ip link add br0 type bridge; ip link set eth1 master br0")
        sh("ip addr add 10.0.0.1/24 dev br0; ip link set br0 up")
        with serve(state):
            eventually(state, "served on br0")
            assert cli(state, "window", "node1").code == 0
            assert CANARY.decode() in get(machine, "/boot/seed/current/seed.cpio")
            sh("ip link add tap0 type veth peer name guest; ip link set tap0 master br0 up")
            eventually(state, "port tap0")
            with pytest.raises(subprocess.CalledProcessError):
                get(machine, "/boot/seed/current/seed.cpio")
            sh("ip link set tap0 nomaster")
            eventually(state, "served on br0")


@isolated
def test_it_does_not_start_on_what_it_may_not_serve(tmp_path: Path) -> None:
    state = networked(tmp_path, "br0")
    sh("ip link add br0 type bridge; ip addr add 10.0.0.1/24 dev br0; ip link set br0 up")
    sh("ip link add tap0 type veth peer name guest; ip link set tap0 master br0 up")
    ran = run(state, "serve")
    assert ran.returncode == Exit.INVALID
    assert "every machine on its port tap0" in ran.stderr
    override = '[listen.override]\nbridge-ports = "a lab without guests"\n'
    (state / "provision.toml").write_text(NETWORK.format(interface="br0") + override)
    with serve(state):
        eventually(state, "served on br0")
    (entry,) = [e for e in cli(state, "audit", "--json").json if e["event"] == "override"]
    assert (entry["rule"], entry["reason"]) == ("bridge-ports", "a lab without guests")
    (state / "provision.toml").write_text(
        NETWORK.format(interface="br9") + '[[listen]]\nnetwork="x"\ninterface="br8"\n'
    )
    both = run(state, "serve")
    assert (both.returncode, both.stderr.count("error: ")) == (Exit.INVALID, 2), both
    (state / "provision.toml").write_text(
        NETWORK.format(interface="br9") + '[[listen]]\nnetwork="office"\ninterface="br8"\n'
    )
    missing = run(state, "serve")
    assert (missing.returncode, missing.stderr.count("there is no interface")) == (Exit.UNAVAILABLE, 2), missing


@isolated
def test_a_taken_port_is_one_line_and_is_taken_when_it_is_free(tmp_path: Path) -> None:
    state = networked(tmp_path)
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1):
        other = socket.create_server(("10.0.0.1", 8080))
        ran = run(state, "serve")
        assert ran.returncode == Exit.UNAVAILABLE
        assert ran.stderr.count("the port is taken") == 1
        assert ran.stderr.splitlines()[-1].startswith("error: TCP 10.0.0.1:8080 on eth1: the port is taken; ")
        document = json.loads(run(state, "serve", "--json").stderr.splitlines()[-1])
        assert (document["exit"], document["subject"]) == (Exit.UNAVAILABLE, "TCP 10.0.0.1:8080 on eth1")
        other.close()
        with serve(state) as served:
            eventually(state, "served on eth1")
            sh("ip link set eth1 down")
            eventually(state, "is down")
            with taking(("10.0.0.1", 8080)):
                sh("ip link set eth1 up")
                eventually(state, "the port is taken")
            eventually(state, "served on eth1")
            assert "Traceback" not in served.log


@isolated
def test_an_address_outside_of_the_network_is_refused(tmp_path: Path) -> None:
    state = networked(tmp_path)
    with lan("eth1", "10.9.0.1/24", "10.9.0.11/24", MAC1):
        ran = run(state, "serve")
        assert (ran.returncode, ran.stderr.count("error: ")) == (Exit.INVALID, 1), ran
        assert "10.9.0.1 on eth1 is outside of its prefix 10.0.0.0/24" in ran.stderr


@isolated
def test_a_service_waits_for_its_inventory(tmp_path: Path) -> None:
    state = tmp_path / "fresh"
    assert cli(state, "init").code == 0
    (state / "provision.toml").write_text(NETWORK.format(interface="eth1"))
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1), serve(state, tmp_path / "log"):
        assert "waits for the first" in health(state)
        (tmp_path / "site.yaml").write_text(INVENTORY)
        assert cli(state, "apply", tmp_path / "site.yaml").code == 0
        eventually(state, "served on eth1")


def test_the_tests_run_as_root() -> None:
    assert os.geteuid() == 0, "the tests of this file need root"
