"""The systemd unit of the service: systemd takes it, and the service works under its rules."""

from __future__ import annotations

import grp
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provision.render import dhcp
from tests.helpers.netns import isolated, lan
from tests.helpers.paths import ROOT
from tests.helpers.sandbox import directives

UNIT = ROOT / "templates" / "systemd" / "provision.service"
PROGRAM = "/usr/local/bin/provision"
# systemd's own word for so little is "OK". What is left is the network that the service is there for, and the process
# that pins neighbours: 0.3 for its two capabilities and ARP.
EXPOSURE = 22
CAPABILITIES = "CAP_NET_BIND_SERVICE CAP_NET_ADMIN CAP_NET_RAW"
OPERATORS = 4
"""A group that every Debian has: adm."""
PROVISION = [sys.executable, "-c", "from provision.cli import main; main()"]
LISTEN = """\
operator_group = "{group}"
[[listen]]
network = "mgmt"
interface = "mgmt0"
"""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here, so that only the unit itself can be wrong."""
    text = UNIT.read_text()
    assert PROGRAM in text
    path = tmp_path / UNIT.name
    path.write_text(text.replace(PROGRAM, "/bin/true"))
    return path


def analyze(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C"})


def test_systemd_takes_it(unit: Path) -> None:
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_mistake_would_be_seen(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=stricter\nProtectAll=yes"))
    said = analyze("verify", unit).stderr
    assert "stricter" in said
    assert "ProtectAll" in said


def test_it_is_hardened(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout[-200:]
    bare = unit.with_name("bare.service")
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert analyze("security", "--offline=true", f"--threshold={EXPOSURE}", bare).returncode != 0


def test_it_gives_no_more_than_is_needed() -> None:
    said = directives(UNIT)
    assert said["CapabilityBoundingSet"] == said["AmbientCapabilities"] == [CAPABILITIES]
    assert (said["LimitCORE"], said["StateDirectoryMode"], said["Type"]) == (["0"], ["0700"], ["notify"])


def test_it_has_bounds() -> None:
    """Enough for ten thousand hosts and the largest request; no device, and nothing in the swap space."""
    said = directives(UNIT)
    assert (said["MemoryHigh"], said["MemoryMax"], said["MemorySwapMax"]) == (["1536M"], ["2G"], ["0"])
    assert (said["TasksMax"], said["DevicePolicy"], said["PrivateDevices"]) == (["256"], ["closed"], ["yes"])
    assert "DeviceAllow" not in said
    image = directives(UNIT.with_name("provision-image.service"))
    assert (image["MemoryMax"], image["TasksMax"], image["DevicePolicy"]) == (["75%"], ["2048"], ["closed"])


def test_the_rendered_unit_has_bounds_too(tmp_path: Path) -> None:
    path = tmp_path / "provision-dhcp.service"
    path.write_bytes(dhcp.unit(Path("/etc/provision/dnsmasq.conf")))
    said = directives(path)
    assert (said["MemoryMax"], said["MemorySwapMax"], said["TasksMax"]) == (["256M"], ["0"], ["16"])
    assert (said["DevicePolicy"], said["PrivateDevices"]) == (["closed"], ["yes"])
    assert analyze("verify", path).stderr == ""


def provision(state: Path, *argv: str) -> None:
    done = subprocess.run([*PROVISION, "--state", str(state), *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@contextmanager
def service(state: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`provision serve` with the unit's capabilities and under its filters; yields it and what it told systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("wb") as output:
        notify.bind(str(log.with_suffix(".notify")))
        notify.settimeout(30)
        # The group of the operator's socket is a SupplementaryGroups= of the unit.
        few = ",".join(name.lower().replace("cap_", "+") for name in CAPABILITIES.split())
        argv = ["setpriv", f"--groups={OPERATORS}", "--bounding-set", f"-all,{few}", "--inh-caps=-all", "--"]
        argv += [sys.executable, "-m", "tests.helpers.sandbox", str(UNIT), *PROVISION, "--state", str(state), "serve"]
        environment = {**os.environ, "NOTIFY_SOCKET": str(log.with_suffix(".notify")), "PYTHONPATH": str(ROOT)}
        child = subprocess.Popen(argv, stdout=output, stderr=output, env=environment)
        try:
            yield child, notify.recv(64).decode()
        except TimeoutError:
            raise AssertionError(log.read_text()) from None
        finally:
            child.kill()
            child.wait()


@isolated
def test_the_service_works_under_its_rules(tmp_path: Path) -> None:
    """Every port is bound and answers, the operator's socket has its group, and SIGTERM ends it."""
    state = tmp_path / "state"
    provision(state, "init")
    (state / "provision.toml").write_text(LISTEN.format(group=grp.getgrgid(OPERATORS).gr_name))
    with lan("mgmt0", "192.0.2.1/24", "192.0.2.100/24", "52:54:00:00:00:01") as host:
        provision(state, "apply", str(ROOT / "examples" / "minimal.yaml"))
        with service(state, tmp_path / "log") as (child, said):
            assert said == "READY=1", (tmp_path / "log").read_text()
            status = Path(f"/proc/{child.pid}/status").read_text()
            assert re.search(r"^CapEff:\s*0*400$", status, re.MULTILINE), "CAP_NET_BIND_SERVICE is bit 10"
            (helper,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            status = Path(f"/proc/{helper}/status").read_text()
            assert re.search(r"^CapEff:\s*0*1000$", status, re.MULTILINE), "CAP_NET_ADMIN is bit 12"
            assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE)
            url = "http://192.0.2.1/pxe/pxelinux.cfg/01-52-54-00-00-00-01"
            assert "window-closed" in (text := host.sh(f"curl -sS --max-time 10 {url}")) or "incomplete" in text
            tftp = "curl -sS --max-time 10 tftp://192.0.2.1/grub/grub.cfg"
            assert "network boot refused" in host.sh(tftp)
            socket_file = (state / "operator.sock").stat()
            assert (socket_file.st_mode & 0o777, socket_file.st_gid) == (0o660, OPERATORS)
            provision(state, "status")
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=20) == 0
    assert "ERROR" not in (log := (tmp_path / "log").read_text()), log
