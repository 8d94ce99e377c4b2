"""What `provision serve` refuses to call a management network, at the start and later, and what an override costs."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision import proc
from provision.demo.lab import Lab, inside, ip
from provision.demo.processes import Process
from provision.demo.site import DemoSite
from provision.errors import Exit
from tests.fixtures import media
from tests.integration.attacks.site import ADDRESS, GUEST, INVENTORY, MAC, MGMT, exchange, http, pxe, tftp

pytestmark = pytest.mark.integration

CANARY = b"canary-of-the-first-host"


class Wired:
    """A server whose management NIC `uplink` is a port of its own bridge `brm`, beside a guest's tap."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.mgmt, self.guest = lab.lan("mgmt", "10.77.1.0/24", server=False), lab.lan("guest", "10.77.2.0/24")
        self.ip("link", "add", "brm", "address", "52:54:00:77:00:fe", "type", "bridge", "forward_delay", "0")
        self.ip("addr", "add", f"{MGMT}/24", "dev", "brm")
        self.mgmt.attach(lab.server, "uplink")
        self.ip("link", "set", "uplink", "master", "brm")
        self.ip("link", "set", "brm", "up")
        self.node = self.mgmt.host("node1", f"{ADDRESS['node1']}/24", mac=MAC["node1"])
        self.site = DemoSite(lab, INVENTORY, "")
        kernel = media.write(lab.directory / "vmlinuz", media.kernel())
        initrd = media.write(lab.directory / "initrd", media.image_archive())
        self.site.call("image", "import", "small", "--kernel", kernel, "--initrd", initrd)
        self.site.call("apply", self.site.inventory)
        for name in MAC:
            self.site.call("credential", "set", name, "enrolment", "--file", "-", stdin=CANARY)
        self._runs = 0

    def number(self) -> int:
        """A number that was not given before."""
        self._runs += 1
        return self._runs

    def ip(self, *arguments: str) -> None:
        """Run `ip` on the server."""
        ip(self.lab.server, *arguments)

    def sysctl(self, key: str, value: str) -> None:
        """Set a value below /proc/sys/net/ipv4 on the server."""
        with inside(self.lab.server):
            (Path("/proc/sys/net/ipv4") / key).write_text(value)

    def start(self, mgmt: str = "", interface: str = "brm") -> Process:
        """Start `provision serve` with more lines for its management network."""
        text = f'[[listen]]\nnetwork = "mgmt"\ninterface = "{interface}"\n{mgmt}\n'
        text += '[[listen]]\nnetwork = "guest"\ninterface = "guest"\n'
        (self.site.state / "provision.toml").write_text(text)
        return self.lab.spawn(self.lab.server, self.site.argv("serve"), log=f"serve-{self.number()}.log")

    def serve(self, mgmt: str = "", interface: str = "brm") -> Process:
        """The same, and wait until it serves."""
        process = self.start(mgmt, interface)
        process.wait_for("serving the operator", 30)
        return process

    def refusal(self, mgmt: str = "", interface: str = "brm") -> str:
        """What it says when it does not start: a line for each network, and the exit code of an invalid setting."""
        process = self.start(mgmt, interface)
        assert process.wait(30) == Exit.INVALID
        # The audit log's head goes to the journal, and stands here where there is none.
        errors = [line for line in process.text.splitlines() if "audit log" not in line]
        if len(errors) > 1:
            assert errors.pop().endswith("problems; nothing was changed")
        assert "Traceback" not in process.text
        assert errors and all(line.startswith("error: network ") for line in errors), process.text
        assert exchange(self.node, MGMT, b"", timeout=1) is None, "nothing listens"
        return process.text

    def config(self) -> str:
        """The configuration that the host gets; empty when nobody answers."""
        return http(self.node, MGMT, f"/pxe/{pxe('node1')}", timeout=1).text

    def audit(self, **fields: Any) -> list[dict[str, Any]]:
        """The audit entries with these values."""
        return [e for e in self.site.json("audit", "--limit", "500") if fields.items() <= e.items()]


def eventually(condition: Callable[[], bool], seconds: float = 8.0) -> float:
    """Wait for a condition; how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not come true"
        time.sleep(0.1)
    return time.monotonic() - start


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    with Lab("b", tmp_path_factory.mktemp("bind")) as lab:
        yield Wired(lab)


@pytest.fixture
def wired(laboratory: Wired) -> Iterator[Wired]:
    """The server as it was: no guest's port, no route out, no forwarding, nothing running."""
    yield laboratory
    for process in laboratory.lab._processes:
        if "serve" in process.log.name:
            process.stop()
    for port in ("vnet0", "vnet1", "macv"):
        proc.run(["ip", "-n", laboratory.lab.server, "link", "del", port], package="iproute2", ok=(0, 1))
    proc.run(["ip", "-n", laboratory.lab.server, "route", "del", "default"], package="iproute2", ok=(0, 2))
    laboratory.sysctl("ip_forward", "0")


def plug_in_a_guest(wired: Wired, name: str, mac: str) -> str:
    """A guest of the server: its NIC is a port of the server's bridge, like a virtual machine's tap."""
    guest = wired.lab.namespace(f"{name}-{wired.number()}")
    peer = ("type", "veth", "peer", "name", "eth0", "address", mac, "netns", guest)
    wired.ip("link", "add", name, *peer)
    wired.ip("link", "set", name, "master", "brm", "up")
    ip(guest, "addr", "add", f"{ADDRESS['node2']}/24", "dev", "eth0")
    ip(guest, "link", "set", "eth0", "up")
    return guest


def test_a_bridge_with_an_unlisted_port_is_refused(wired: Wired) -> None:
    assert "uplink" in wired.refusal() and "bridge-ports" in wired.refusal()
    wired.ip("tuntap", "add", "vnet0", "mode", "tap")
    wired.ip("link", "set", "vnet0", "master", "brm", "up")
    said = wired.refusal('bridge_ports = ["uplink"]')
    assert "whoever is on its port vnet0 would be on this network" in said
    assert "list every port in 'bridge_ports'" in said
    process = wired.serve('bridge_ports = ["uplink", "vnet0"]')
    assert "boots from the network" in wired.config(), "a bridge whose ports are all listed is served"
    assert wired.audit(event="override") == []
    process.stop()


def test_a_port_that_appears_later_ends_the_service_there(wired: Wired) -> None:
    """And what an operator loses by an override is seen as well: the guest with a host's MAC gets that host's seed."""
    process = wired.serve('bridge_ports = ["uplink"]')
    assert "boots from the network" in wired.config()
    guest = plug_in_a_guest(wired, "vnet0", MAC["node2"])
    assert eventually(lambda: not wired.config()) < 4
    process.wait_for("'mgmt' is not served: .*vnet0", 5)
    stolen = http(guest, MGMT, "/boot/seed/current/seed.cpio", timeout=1)
    assert stolen.status == 0 and tftp(guest, MGMT, pxe("node2"), timeout=0.5).status == 0
    health = wired.site.json("status")
    assert process.running and health["hosts"], "the operator's socket goes on"
    assert http(wired.guest.host("other", "10.77.2.9/24"), GUEST, f"/pxe/{pxe('node1')}").status == 200
    wired.ip("link", "del", "vnet0")
    eventually(lambda: "boots from the network" in wired.config())
    process.stop()
    reason = "the tap is the site's own installer"
    process = wired.serve(f'bridge_ports = ["uplink"]\noverride = {{ bridge-ports = "{reason}" }}')
    guest = plug_in_a_guest(wired, "vnet1", MAC["node2"])
    time.sleep(1)
    assert CANARY in http(guest, MGMT, "/boot/seed/current/seed.cpio").body, "this is what the rule is for"
    (entry,) = wired.audit(event="override", rule="bridge-ports")
    assert entry["reason"] == reason
    process.stop()


def test_connections_that_were_open_before_are_cut(wired: Wired) -> None:
    """A guest that connected in the moment before the rule was broken keeps no way in."""
    process = wired.serve('bridge_ports = ["uplink"]')
    with inside(wired.node):
        kept = socket.create_connection((MGMT, 80), 3)
    with kept:
        kept.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += kept.recv(4096)
        assert b" 404 " in answer
        plug_in_a_guest(wired, "vnet0", MAC["node2"])
        process.wait_for("'mgmt' is not served", 8)
        kept.settimeout(8)
        assert kept.recv(10) == b"", "the server has closed it"
    process.stop()


def test_an_override_needs_words(wired: Wired) -> None:
    for reason in ("", " ", "yes"):
        process = wired.start(f'override = {{ bridge-ports = "{reason}" }}')
        assert process.wait(30) == Exit.INVALID
        assert (
            "is no written reason; write at least two words" in process.text.splitlines()[0]
            and "Traceback" not in process.text
        )


def test_the_interface_of_the_default_route_is_refused(wired: Wired) -> None:
    ports = 'bridge_ports = ["uplink"]'
    process = wired.serve(ports)
    assert "boots from the network" in wired.config()
    wired.ip("route", "add", "default", "via", "10.77.1.254", "dev", "brm")
    eventually(lambda: not wired.config())
    process.wait_for("default-route", 5)
    process.stop()
    assert "the default route leaves by brm" in wired.refusal(ports)
    reason = "a lab with one NIC only"
    process = wired.serve(f'{ports}\noverride = {{ default-route = "{reason}" }}')
    assert "boots from the network" in wired.config()
    assert [e["reason"] for e in wired.audit(event="override", rule="default-route")] == [reason]
    process.stop()


def test_forwarding_between_management_and_general_is_refused(wired: Wired) -> None:
    ports = 'bridge_ports = ["uplink"]'
    process = wired.serve(ports)
    assert "boots from the network" in wired.config()
    wired.sysctl("ip_forward", "1")
    eventually(lambda: not wired.config())
    process.wait_for(r"\(forwarding\)", 5)
    process.stop()
    assert "forwards packets between it and the general network 'guest'" in wired.refusal(ports)
    wired.sysctl("conf/brm/forwarding", "0")
    process = wired.serve(ports)
    assert "boots from the network" in wired.config(), "forwarding elsewhere is nobody's business"
    process.stop()


def test_a_wildcard_address_is_refused(wired: Wired) -> None:
    said = wired.refusal('bridge_ports = ["uplink"]\naddress = "0.0.0.0"')
    assert "0.0.0.0 listens on every address" in said and "(wildcard-address)" in said


def test_a_port_of_a_bridge_and_a_missing_address_are_refused(wired: Wired) -> None:
    wired.ip("addr", "add", "10.77.1.5/24", "dev", "uplink")
    try:
        assert "is a port of the bridge brm" in wired.refusal(interface="uplink")
    finally:
        wired.ip("addr", "del", "10.77.1.5/24", "dev", "uplink")


def test_an_interface_on_top_of_the_bridge_is_as_open_as_the_bridge(wired: Wired) -> None:
    wired.ip("link", "add", "macv", "link", "brm", "type", "macvlan", "mode", "bridge")
    wired.ip("addr", "add", "10.77.1.5/24", "dev", "macv")
    wired.ip("link", "set", "macv", "up")
    assert "(bridge-ports)" in wired.refusal(interface="macv")


def test_a_refusal_is_json_for_programs(wired: Wired) -> None:
    (wired.site.state / "provision.toml").write_text('[[listen]]\nnetwork = "mgmt"\ninterface = "brm"\n')
    inner = ["ip", "netns", "exec", wired.lab.server, *map(str, wired.site.argv("serve", "--json"))]
    done = proc.run(inner, package="iproute2", ok=(int(Exit.INVALID),))
    assert "brm is a bridge" in json.loads(done.stderr.splitlines()[-1])["detail"]
