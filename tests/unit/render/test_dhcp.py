"""The DHCP configuration: parsed back for arbitrary valid inventories, read by dnsmasq, and asked for real leases."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.boot import Role
from provision.errors import Invalid
from provision.host import Chain, Host
from provision.proc import find, run
from provision.render import dhcp, dnsmasq_lines
from provision.render.dhcp import BootServer
from provision.site import Inventory, Network, Site
from tests.helpers.netns import Peer, isolated, lan
from tests.helpers.rendering import HOSTS, SITE, domains, golden, host, names, nic

SERVER = IPv4Address("10.20.0.4")
MGMT = BootServer("mgmt", "eth1", SERVER)
MIGRATION = IPv4Network("198.51.100.0/24")
OFFICE = BootServer("office", "eth2", IPv4Address("192.0.2.4"))


def reserved(name: str, number: int, address: str | None) -> Host:
    return host(name, mgmt={"macs": (nic(number),), "network": "mgmt", "addressing": "dhcp", "reservation": address})


def inventory(*hosts: Host, site: Site = SITE) -> Inventory:
    return Inventory(site=site, hosts=hosts)


def parse(text: bytes) -> list[tuple[str, list[str]]]:
    """Every directive with its comma-separated arguments, as dnsmasq splits them."""
    lines = [line for line in text.decode("ascii").splitlines() if line and not line.startswith("#")]
    pairs = [line.partition("=") for line in lines]
    return [(name, value.split(",") if value else []) for name, _, value in pairs]


def test_golden() -> None:
    hosts = (HOSTS["static"], reserved("node8", 8, "10.20.0.8"), reserved("node9", 9, None))
    golden("dhcp/dnsmasq.conf", dhcp.dnsmasq(dhcp.model(inventory(*hosts), [OFFICE, MGMT])))
    golden("dhcp/provision-dhcp.service", dhcp.unit(Path("/etc/provision/dnsmasq.conf")))


def test_general_networks_are_never_served() -> None:
    assert dhcp.model(inventory(HOSTS["hypervisor"]), [OFFICE]).networks == ()
    text = dhcp.dnsmasq(dhcp.model(inventory(HOSTS["hypervisor"]), [OFFICE, MGMT])).decode()
    assert "eth2" not in text
    assert "192.0.2." not in text


def test_a_static_host_and_every_nic_of_a_bond_are_reserved() -> None:
    (network,) = dhcp.model(inventory(HOSTS["hypervisor"]), [MGMT]).networks
    assert network.reservations == (dhcp.Reservation("node7", (nic(1), nic(2)), IPv4Address("10.20.0.7")),)


def test_a_host_that_starts_the_signed_image_is_told_where_it_is() -> None:
    unified = reserved("node8", 8, "10.20.0.8").model_copy(update={"chain": Chain.UKI})
    text = dhcp.dnsmasq(dhcp.model(inventory(unified, reserved("node9", 9, "10.20.0.9")), [MGMT]))
    dhcp.check(text)
    dnsmasq_lines.require(text.decode(), {"eth1"})
    lines = parse(text)
    assert ("dhcp-host", [nic(8), "set:uki", "10.20.0.8", "node8.example.org"]) in lines
    assert ("dhcp-host", [nic(9), "10.20.0.9", "node9.example.org"]) in lines
    boots = [arguments for name, arguments in lines if name == "dhcp-boot" and "tag:arch-http" in arguments]
    assert [(one[2], one[3].rpartition("/")[2]) for one in boots] == [("tag:uki", "boot.efi"), ("tag:!uki", "boot.iso")]


TWO = SITE.model_copy(
    update={"networks": dict(SITE.networks) | {"migr": Network(role=Role.MANAGEMENT, prefix=MIGRATION, vlan=102)}}
)
BOTH = [MGMT, BootServer("migr", "eth1.102", IPv4Address("198.51.100.4"))]


def on_two(name: str, macs: tuple[str, ...], boot: dict[str, Any], migr: dict[str, Any], swapped: bool = False) -> Host:
    """A host whose NIC or bond is on both management networks."""
    bond = {"bond": "active-backup"} if len(macs) > 1 else {}
    first = {"macs": macs, "network": "mgmt"} | bond | boot
    second = {"macs": macs[::-1] if swapped else macs, "network": "migr", "vlan": 102} | bond | migr
    return host(name, b=first, m=second)


def reserving(address: str | None = None) -> dict[str, Any]:
    return {"addressing": "dhcp", "reservation": address}


def static(address: str) -> dict[str, Any]:
    return {"addressing": "static", "ipv4": address}


ON_TWO = (
    on_two("dhcp-dhcp", (nic(1),), reserving("10.20.0.11"), reserving()),
    on_two("static-static", (nic(2),), static("10.20.0.12"), static("198.51.100.12")),
    on_two("bonded", (nic(3), nic(4)), reserving("10.20.0.13"), static("198.51.100.13")),
    on_two("swapped", (nic(7), nic(8)), reserving("10.20.0.15"), static("198.51.100.15"), swapped=True),
    on_two("late", (nic(9),), reserving(), reserving("198.51.100.16")),
)


def test_a_nic_or_bond_on_two_networks_keeps_both_reservations() -> None:
    text = dhcp.dnsmasq(dhcp.model(inventory(*ON_TWO, site=TWO), BOTH))
    assert [arguments for name, arguments in parse(text) if name == "dhcp-host"] == [
        [nic(9), "late.example.org"],
        [nic(1), "dhcp-dhcp.example.org"],
        [nic(1), "10.20.0.11", "dhcp-dhcp.example.org"],
        [nic(2), "10.20.0.12", "static-static.example.org"],
        [nic(3), nic(4), "10.20.0.13", "bonded.example.org"],
        [nic(7), nic(8), "10.20.0.15", "swapped.example.org"],
        [nic(2), "198.51.100.12", "static-static.example.org"],
        [nic(3), nic(4), "198.51.100.13", "bonded.example.org"],
        [nic(8), nic(7), "198.51.100.15", "swapped.example.org"],
        [nic(9), "198.51.100.16", "late.example.org"],
    ]


@st.composite
def _host_on_networks(draw: st.DrawFn, number: int, networks: int) -> Host:
    """A host with one to three connections, on NICs and bonds of its own or shared between them."""
    bonds = [(nic(8 * number), nic(8 * number + 1)), (nic(8 * number + 2),), (nic(8 * number + 3),)]
    interfaces: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 3))):
        macs = draw(st.sampled_from(bonds))
        network = draw(st.integers(0, networks - 1))
        address = f"10.{network}.{number}.{index + 1}"
        way = draw(st.sampled_from([static(address), reserving(address), reserving()]))
        ordered = draw(st.permutations(macs))
        bond = {"bond": "active-backup"} if len(macs) > 1 else {}
        interfaces[f"i{index}"] = {"macs": ordered, "network": f"n{network}", "vlan": index + 1} | bond | way
    return host(f"h{number}", **interfaces)


@given(st.data())
def test_whatever_the_inventory_reserves_is_in_the_configuration(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))
    networks = {
        f"n{n}": Network(role=data.draw(st.sampled_from(Role)), prefix=IPv4Network(f"10.{n}.0.0/16"))
        for n in range(count)
    }
    hosts = [data.draw(_host_on_networks(number, count)) for number in range(data.draw(st.integers(0, 4)))]
    listeners = [BootServer(name, f"eth{n}", IPv4Address(f"10.{n}.255.4")) for n, name in enumerate(networks)]
    served = {name for name, network in networks.items() if network.role is Role.MANAGEMENT}
    model = dhcp.model(inventory(*hosts, site=SITE.model_copy(update={"networks": networks})), listeners)
    wanted = {
        (frozenset(interface.macs), str(address) if address else None, f"{one.name}.{SITE.domain}")
        for one in hosts
        for interface in one.interfaces.values()
        for address in [interface.ipv4 or interface.reservation]
        if interface.network in served
    }
    rendered = [
        (frozenset(a for a in arguments[:-1] if ":" in a), next((a for a in arguments if a[0] == "1"), None), name)
        for directive, arguments in parse(dhcp.dnsmasq(model))
        if directive == "dhcp-host"
        for name in [arguments[-1]]
    ]
    assert len(rendered) == len(set(rendered))
    assert set(rendered) == wanted


def test_without_a_pool_only_known_hosts_get_an_answer() -> None:
    networks = dict(SITE.networks) | {"mgmt": SITE.networks["mgmt"].model_copy(update={"pool": None})}
    site = SITE.model_copy(update={"networks": networks})
    text = dhcp.dnsmasq(dhcp.model(inventory(site=site), [MGMT])).decode()
    assert "dhcp-range=set:net-mgmt,10.20.0.0,static,255.255.0.0,12h\n" in text


def test_a_port_other_than_80_is_in_every_url() -> None:
    text = dhcp.dnsmasq(dhcp.model(inventory(), [BootServer("mgmt", "eth1", SERVER, 8080)])).decode()
    assert text.count("http://10.20.0.4:8080/") == 2
    assert text.count("http://") == 2


def test_the_lease_table_holds_every_host_and_the_pool() -> None:
    hosts = [reserved(f"n{i}", i, None) for i in range(3000)]
    assert dhcp.model(inventory(*hosts), [MGMT]).leases >= 3254


@pytest.mark.parametrize(
    ("site", "binding", "fact"),
    [
        (SITE, BootServer("lab", "eth1", SERVER), "lab: .* does not have"),
        (SITE, BootServer("mgmt", "eth1", IPv4Address("10.21.0.4")), "mgmt: .*outside of 10.20.0.0/16"),
        (SITE.model_copy(update={"domain": "0.0.5"}), MGMT, "ends in a number"),
    ],
)
def test_what_cannot_be_served_is_named(site: Site, binding: BootServer, fact: str) -> None:
    with pytest.raises(Invalid, match=fact):
        dhcp.model(inventory(site=site), [binding])


@given(domain=domains, name=names, network=names, macs=st.lists(st.integers(0, 9999), min_size=1, unique=True))
def test_no_valid_value_adds_a_line_or_an_option(domain: str, name: str, network: str, macs: list[int]) -> None:
    prefix = Network(role=Role.MANAGEMENT, prefix=IPv4Network("10.0.0.0/8"), gateway=IPv4Address("10.0.0.1"))
    site = Site(domain=domain, networks={network: prefix})
    own = tuple(map(nic, macs[:8]))
    interface = {"macs": own, "network": network, "addressing": "dhcp", "reservation": "10.0.0.9"}
    interface |= {"bond": "active-backup"} if len(own) > 1 else {}
    binding = BootServer(network, "eth1", IPv4Address("10.0.0.4"))
    found = parse(dhcp.dnsmasq(dhcp.model(inventory(host(name, mgmt=interface), site=site), [binding])))
    tag = f"tag:net-{network}"
    assert [name for name, _ in found] == [
        *("port", "bind-dynamic", "except-interface", "no-hosts", "no-resolv", "dhcp-authoritative"),
        *("domain", "dhcp-leasefile", "dhcp-lease-max", "dhcp-match", "dhcp-match", "dhcp-match", "dhcp-match"),
        *("interface", "dhcp-range", "dhcp-option", "dhcp-option", "dhcp-boot", "dhcp-option-force"),
        *("dhcp-option-force", "dhcp-boot", "dhcp-option-force", "dhcp-boot", "dhcp-host"),
    ]
    assert found[-1] == ("dhcp-host", [*own, "10.0.0.9", f"{name}.{domain}"])
    assert ("domain", [domain]) in found
    assert ("dhcp-option", [tag, "option:router", "10.0.0.1"]) in found


def test_a_network_without_ipv4_is_not_served() -> None:
    networks = {"mgmt": SITE.networks["mgmt"].model_copy(update={"prefix": None})}
    with pytest.raises(Invalid, match="mgmt: has no IPv4 prefix, and boot listeners are IPv4; leave its"):
        dhcp.model(inventory(site=SITE.model_copy(update={"networks": networks})), [BootServer("mgmt", "eth1", SERVER)])


@pytest.mark.parametrize(
    "smuggled", ["a\nport=53", "a,b", "a b", 'a"', "a'", "a#b", "a\\", "é", "", "-a", "a\x00", "a\r", "$a", "a;b", "*"]
)
def test_smuggled_values_are_refused(smuggled: str) -> None:
    interface = HOSTS["dhcp"].primary
    evil = [
        inventory(Host.model_construct(name=smuggled, interfaces={"mgmt": interface})),
        inventory(site=SITE.model_copy(update={"domain": smuggled})),
        inventory(host(mgmt=interface.model_copy(update={"macs": (smuggled,)}))),
        inventory(host(mgmt=interface.model_copy(update={"reservation": smuggled}))),
    ]
    for case in evil:
        with pytest.raises(Invalid, match=r"dnsmasq\.conf\.j2: a value holds"):
            dhcp.dnsmasq(dhcp.model(case.model_copy(), [MGMT]))
    with pytest.raises(Invalid, match=r"dnsmasq\.conf\.j2: a value holds"):
        dhcp.dnsmasq(dhcp.model(inventory(), [BootServer("mgmt", smuggled, SERVER)]))


def test_ten_thousand_hosts_render_quickly() -> None:
    hosts = [reserved(f"n{i}", i, f"10.20.{i >> 8}.{i & 255}") for i in range(20, 10020)]
    start = time.monotonic()
    text = dhcp.dnsmasq(dhcp.model(inventory(*hosts), [MGMT]))
    assert text.count(b"\ndhcp-host=") == 10_000
    assert time.monotonic() - start < 5


@pytest.mark.integration
def test_dnsmasq_reads_ten_thousand_hosts_and_names_its_complaint() -> None:
    hosts = [reserved(f"n{i}", i, f"10.20.{i >> 8}.{i & 255}") for i in range(20, 10020)]
    text = dhcp.dnsmasq(dhcp.model(inventory(*hosts), [MGMT]))
    dhcp.check(text)
    with pytest.raises(Invalid, match="dnsmasq: bad option at line"):
        dhcp.check(text + b"nonsense=1\n")


@pytest.mark.integration
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "provision-dhcp.service"
    path.write_bytes(dhcp.unit(tmp_path / "dnsmasq.conf"))
    done = run(["systemd-analyze", "verify", path], package="systemd")
    assert done.stderr == b""


@contextmanager
def serving(text: bytes, directory: Path) -> Iterator[None]:
    """dnsmasq with this configuration in the namespace of the calling thread, until the end of the block."""
    config = directory / "dnsmasq.conf"
    config.write_bytes(text)
    command = [find("dnsmasq", "dnsmasq-base"), "--keep-in-foreground", "--user=root", "--log-facility=-"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--pid-file", f"--conf-file={config}"], stderr=log)
        try:
            deadline = time.monotonic() + 10
            while b"started" not in (directory / "log").read_bytes():
                assert server.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.05)
            yield
        finally:
            server.terminate()
            server.wait(timeout=10)


def ask(there: Peer, directory: Path, mac: str, arch: int | None) -> dict[str, str] | None:
    """Take a lease with udhcpc as `mac`, as firmware of architecture `arch` would; what it was told, or None."""
    there.sh(f"ip link set eth0 down && ip link set eth0 address {mac} && ip link set eth0 up")
    told = directory / "told"
    script = directory / "script"
    script.write_text(f'#!/bin/sh\n[ "$1" != bound ] || env >{shlex.quote(str(told))}\n')
    script.chmod(0o755)
    told.unlink(missing_ok=True)
    options = "-O 3 -O 6 -O 12 -O 15 -O 42 -O 60 -O 66 -O 67 -O 210 -O 211"
    vendor = {None: "", 16: "-V HTTPClient:Arch:00016"}.get(arch, f"-V PXEClient:Arch:{arch or 0:05}")
    wanted = f"-x 0x5d:{arch:04x}" if arch is not None else ""
    busybox = find("busybox", "busybox-static")
    there.sh(f"env -i {busybox} udhcpc -i eth0 -f -q -n -t 4 -T 1 -s {script} {options} {vendor} {wanted} 2>&1 || true")
    if not told.exists():
        return None
    return dict(line.partition("=")[::2] for line in told.read_text().splitlines())


LEASES: list[tuple[str, str, int | None, dict[str, Any]]] = [
    ("BIOS", nic(8), 0, {"ip": "10.20.0.8", "bootfile": "lpxelinux.0", "pxepathprefix": "http://10.20.0.4/pxe/"}),
    ("BIOS, retry", nic(8), 0, {"reboottime": "5"}),
    ("EFI", nic(8), 7, {"ip": "10.20.0.8", "bootfile": "shimx64.efi", "pxepathprefix": None, "reboottime": None}),
    ("EFI, old number", nic(8), 9, {"ip": "10.20.0.8", "bootfile": "shimx64.efi"}),
    ("HTTP Boot", nic(8), 16, {"ip": "10.20.0.8", "bootfile": "http://10.20.0.4/http-boot/boot.iso"}),
    ("no firmware", nic(8), None, {"ip": "10.20.0.8", "bootfile": None, "hostname": "1h", "domain": "example.org"}),
    ("static", nic(7), 0, {"ip": "10.20.0.7", "hostname": "node7"}),
    ("bond, second NIC", nic(12), 0, {"ip": "10.20.0.11", "router": "10.20.0.1", "dns": "10.20.0.2"}),
    ("unknown", nic(99), 0, {"bootfile": "lpxelinux.0", "siaddr": "10.20.0.4", "hostname": None}),
]


@pytest.mark.integration
@isolated
def test_real_leases(tmp_path: Path) -> None:
    bond = {"macs": (nic(11), nic(12)), "bond": "active-backup", "network": "mgmt", "addressing": "dhcp"}
    hosts = (HOSTS["static"], reserved("1h", 8, "10.20.0.8"), host("ignore", mgmt=bond | {"reservation": "10.20.0.11"}))
    model = dhcp.model(inventory(*hosts), [BootServer("mgmt", "srv0", SERVER)])
    with lan("srv0", "10.20.0.4/16", "10.20.250.1/16") as there:
        dynamic: list[str] = []
        with serving(dhcp.dnsmasq(model, tmp_path / "leases"), tmp_path):
            for what, mac, arch, expected in LEASES:
                told = ask(there, tmp_path, mac, arch)
                assert told is not None, what
                assert {key: told.get(key) for key in expected} == expected, (what, told)
                dynamic += [told["ip"]] if what == "unknown" else []
                if what == "HTTP Boot":
                    assert "HTTPClient" in (told.get("opt60"), told.get("vendor")), told
        assert [IPv4Address(ip) in IPv4Network("10.20.200.0/24") for ip in dynamic] == [True]


@pytest.mark.integration
@isolated
def test_without_a_pool_a_stranger_gets_no_lease_and_another_interface_none(tmp_path: Path) -> None:
    networks = dict(SITE.networks) | {"mgmt": SITE.networks["mgmt"].model_copy(update={"pool": None})}
    site = SITE.model_copy(update={"networks": networks})
    model = dhcp.model(inventory(reserved("node8", 8, "10.20.0.8"), site=site), [BootServer("mgmt", "srv0", SERVER)])
    with lan("srv0", "10.20.0.4/16", "10.20.250.1/16") as there, lan("srv1", "10.20.0.5/16", "10.20.250.2/16") as other:
        with serving(dhcp.dnsmasq(model, tmp_path / "leases"), tmp_path):
            assert ask(there, tmp_path, nic(99), 0) is None
            assert ask(other, tmp_path, nic(8), 0) is None
            known = ask(there, tmp_path, nic(8), 0)
        assert known is not None and known["ip"] == "10.20.0.8"


@pytest.mark.integration
@isolated
def test_a_nic_on_two_networks_gets_a_lease_of_each(tmp_path: Path) -> None:
    bindings = [BootServer("mgmt", "srv0", SERVER), BootServer("migr", "srv1", IPv4Address("198.51.100.4"))]
    text = dhcp.dnsmasq(dhcp.model(inventory(*ON_TWO, site=TWO), bindings), tmp_path / "leases")
    with (
        lan("srv0", "10.20.0.4/16", "10.20.250.1/16") as boot,
        lan("srv1", "198.51.100.4/24", "198.51.100.9/24") as migr,
        serving(text, tmp_path),
    ):
        found = {
            (mac, name): told["ip"] if told else None
            for mac in (nic(1), nic(2), nic(4), nic(8), nic(9))
            for name, there in (("boot", boot), ("migr", migr))
            for told in [ask(there, tmp_path, mac, 0)]
        }
    pool = found.pop((nic(9), "boot"))
    assert pool is not None and pool.startswith("10.20.200."), "no reservation there: from the pool"
    assert found == {
        (nic(1), "boot"): "10.20.0.11",
        (nic(1), "migr"): None,
        (nic(2), "boot"): "10.20.0.12",
        (nic(2), "migr"): "198.51.100.12",
        (nic(4), "boot"): "10.20.0.13",
        (nic(4), "migr"): "198.51.100.13",
        (nic(8), "boot"): "10.20.0.15",
        (nic(8), "migr"): "198.51.100.15",
        (nic(9), "migr"): "198.51.100.16",
    }
