"""What `provision serve` refuses to call a management network, at the start and later, and what an override costs."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from provision import proc
from provision.errors import Exit
from provision.lab.lans import Lab, inside, ip
from tests.helpers.wired import CANARY, Wired, eventually
from tests.integration.attacks.site import ADDRESS, GUEST, MAC, MGMT, http, pxe, tftp


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
    assert "every machine on its port vnet0 would be on this network" in said
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
        with pytest.raises(ConnectionResetError):
            kept.recv(10)
    process.stop()


def test_an_override_needs_words(wired: Wired) -> None:
    for reason in ("", " ", "yes"):
        process = wired.start(f'override = {{ bridge-ports = "{reason}" }}')
        assert process.wait(30) == Exit.INVALID
        assert (
            "is not a reason; write at least two words" in process.text.splitlines()[0]
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


HALVES = (
    ("route", "add", "0.0.0.0/1", "via", "10.77.1.254", "dev", "brm"),
    ("route", "add", "128.0.0.0/1", "via", "10.77.1.254", "dev", "brm", "table", "77"),
    ("-6", "route", "add", "2000::/3", "dev", "brm"),
    ("-6", "route", "add", "default", "dev", "brm", "table", "77"),
)


@pytest.mark.parametrize("line", HALVES, ids=["a half", "another table", "IPv6", "IPv6 in another table"])
def test_a_default_route_is_seen_in_any_shape(wired: Wired, line: tuple[str, ...]) -> None:
    wired.sysctl("../ipv6/conf/brm/disable_ipv6", "0")
    with wired.serving() as process:
        wired.ip(*line)
        try:
            process.wait_for(r"'mgmt' is not served: .*default-route", 5)
            assert not wired.config()
        finally:
            wired.ip(*("del" if word == "add" else word for word in line))
        eventually(lambda: "boots from the network" in wired.config())


def test_forwarding_to_what_is_not_served_is_seen(wired: Wired) -> None:
    """A guest network of the same machine, which no [[listen]] names: routed guests would be on the management LAN."""
    wired.ip("link", "add", "vnet0", "type", "bridge")
    wired.ip("addr", "add", "192.168.122.1/24", "dev", "vnet0")
    wired.ip("link", "set", "vnet0", "up")
    wired.sysctl("conf/guest/forwarding", "0")
    with wired.serving() as process:
        wired.sysctl("conf/vnet0/forwarding", "1")
        wired.sysctl("conf/brm/forwarding", "1")
        process.wait_for(
            r"'mgmt' is not served: network 'mgmt': this server forwards packets between it and vnet0 \(forwarding\)", 5
        )
        wired.sysctl("conf/brm/forwarding", "0")
        eventually(lambda: "boots from the network" in wired.config())


def test_forwarding_of_ipv6_is_seen(wired: Wired) -> None:
    wired.sysctl("../ipv6/conf/brm/disable_ipv6", "0")
    with wired.serving() as process:
        wired.sysctl("../ipv6/conf/all/forwarding", "1")
        try:
            process.wait_for(r"'mgmt' is not served: .* forwards IPv6 packets .*guest", 5)
            wired.sysctl("../ipv6/conf/brm/disable_ipv6", "1")
            eventually(lambda: "boots from the network" in wired.config(), 15)
        finally:
            wired.sysctl("../ipv6/conf/all/forwarding", "0")


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_a_macvlan_that_appears_ends_the_service_there(wired: Wired, kind: str) -> None:
    with wired.serving() as process:
        wired.ip("link", "add", "macv", "link", "brm", "type", kind, "mode", "bridge")
        process.wait_for("'mgmt' is not served: .*shared-nic", 5)
        assert not wired.config()
        wired.ip("link", "del", "macv")
        eventually(lambda: "boots from the network" in wired.config())


def test_a_macvlan_in_a_container_is_seen(wired: Wired) -> None:
    """It is in no list of the server's interfaces; its MAC is in the filter of the interface below."""
    container = wired.lab.namespace(f"container-{wired.number()}")
    wired.ip("link", "add", "macv", "link", "brm", "type", "macvlan", "mode", "bridge")
    wired.ip("link", "set", "macv", "netns", container)
    with wired.serving() as process:
        ip(container, "link", "set", "macv", "up")
        process.wait_for("'mgmt' is not served: .*in another namespace.*shared-nic", 20)
        assert not wired.config()
    assert "shared-nic" in wired.refusal('bridge_ports = ["uplink"]')
    ip(container, "link", "del", "macv")


def test_what_should_be_set_is_said(wired: Wired) -> None:
    wired.sysctl("conf/brm/rp_filter", "0")
    with wired.serving() as process:
        line = "sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.brm.rp_filter=1"
        process.wait_for(f"network 'mgmt' is served, but rp_filter of brm is 0, .*{line}", 5)
        assert line in wired.health() and wired.health().startswith("served on brm")
        wired.sysctl("conf/brm/rp_filter", "1")
        eventually(lambda: "rp_filter" not in wired.health(), 15)


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
