"""What systemd-networkd makes of the rendered files: addresses and routes, in namespaces of its own."""

from __future__ import annotations

import json
import re
import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from provision import proc
from provision.boot import Role
from provision.host import Host
from provision.render import networkd
from provision.site import Network, Site
from tests.helpers.rendering import HOSTS, SITE, host, nic

SCRIPT = Path(__file__).with_name("networkd.sh")
MACHINE_IDS = ("1" * 12 + "4111" + "8" + "1" * 15, "2" * 12 + "4222" + "8" + "2" * 15)


def run(subject: Host, directory: Path, machine_id: str, until: str, site: Site = SITE) -> None:
    """Start networkd with the host's files, and wait until the shell command `until` holds in `directory`."""
    directory.mkdir(exist_ok=True)
    for name, text in networkd.files(subject, site).items():
        # A virtual NIC has no permanent address.
        (directory / name).write_bytes(text.replace(b"PermanentMACAddress=", b"MACAddress="))
    argv: list[str | Path] = ["unshare", "-n", "-m", "sh", SCRIPT, directory, machine_id, until]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_host_without_storage_keeps_its_dhcpv6_address(tmp_path: Path) -> None:
    (tmp_path / "leases").touch()
    # Two boots with two random machine-ids, and one server that remembers the first.
    until = "grep -q '^[0-9]* [0-9]* 2001:db8:20::' leases && grep -q ' 10.20.200.' leases && cp leases leases.seen"
    leases = []
    for machine_id in MACHINE_IDS:
        run(host(), tmp_path, machine_id, until)
        lines = [line.split() for line in (tmp_path / "leases.seen").read_text().splitlines()]
        leases.append([(words[2], words[4]) for words in lines if len(words) == 5 and ":" in words[2]])
    (lease,) = leases[0]
    assert lease[1] == f"00:03:00:01:{nic(7)}"
    assert leases == [[lease], [lease]]


def test_modprobe_takes_the_options_of_the_bonding_module(tmp_path: Path) -> None:
    (tmp_path / "provision.conf").write_bytes(networkd.module_options(HOSTS["hypervisor"]) or b"")
    shown = proc.run(["modprobe", "--showconfig", "-C", tmp_path], package="kmod").stdout
    assert b"options bonding max_bonds=0\n" in shown


def test_two_interfaces_on_one_network_reach_it_in_their_order(tmp_path: Path) -> None:
    def static(number: int) -> dict[str, Any]:
        address = {"ipv4": f"10.20.0.{number}", "ipv6": f"2001:db8:20::{number}"}
        return {"macs": (nic(number),), "network": "mgmt", "addressing": "static"} | address

    twin = host(a=static(7), b=static(8))
    wanted = [f"{cli} proto kernel scope link src 10.20.0.{n}" for cli, n in (("cli0", 7), ("cli1", 8))]
    show = "ip -4 route show 10.20.0.0/16 >four; ip -6 route show 2001:db8:20::/64 >six; ip route >all"
    until = f'{show}; for c in cli0 cli1; do for f in four six all; do grep -q "dev $c.*metric" $f || exit; done; done'
    run(twin, tmp_path, MACHINE_IDS[0], until)
    four = [line.strip() for line in (tmp_path / "four").read_text().splitlines() if "cli" in line]
    assert four == [f"10.20.0.0/16 dev {wanted[0]} metric 100", f"10.20.0.0/16 dev {wanted[1]} metric 200"]
    six = [line.split() for line in (tmp_path / "six").read_text().splitlines() if "cli" in line]
    assert [(words[2], words[words.index("metric") + 1]) for words in six] == [("cli0", "100"), ("cli1", "200")]
    default = [line for line in (tmp_path / "all").read_text().splitlines() if line.startswith("default")]
    assert [line.split()[4:] for line in default] == [
        ["cli0", "proto", "static", "metric", "100"],
        ["cli1", "proto", "static", "metric", "200"],
    ]


INFINIBAND = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:11"
HOSTED = SITE.model_copy(
    update={
        # As hosting providers give addresses: one of its own for each host, and a gateway of no network.
        "networks": {
            **SITE.networks,
            "hosted": Network(
                role=Role.GENERAL,
                prefix=IPv4Network("203.0.113.7/32"),
                gateway=IPv4Address("169.254.0.1"),
                gateway_onlink=True,
            ),
        },
        "search": ("lab.example.org", "example.com"),
    }
)
UNUSUAL: dict[str, dict[str, Any]] = {
    "hosted": {"macs": (nic(7),), "network": "hosted", "addressing": "static", "ipv4": "203.0.113.7"},
    "mgmt": {"macs": (nic(8),), "network": "mgmt", "addressing": "static", "ipv4": "10.20.0.8", "mtu": 1400},
    "xor": {"macs": (nic(21), nic(22)), "bond": "balance-xor", "bond_options": {"hash_policy": "layer2+3"}},
    "tlb": {"macs": (nic(23), nic(24)), "bond": "balance-tlb", "bond_options": {"hash_policy": "layer3+4"}},
    "alb": {"macs": (nic(25), nic(26)), "bond": "balance-alb"},
    "lacp": {"macs": (nic(27), nic(28)), "bond": "802.3ad", "bond_options": {"lacp_rate": "slow", "min_links": 2}},
    "trunk": {"macs": (nic(29),), "bridge": "br-trunk", "bridge_vlans": ("10-20", "30")},
    "ib": {"macs": (INFINIBAND,), "network": "office", "addressing": "dhcp"},
}
ROUTES: dict[str, tuple[dict[str, Any], ...]] = {
    "hosted": ({"to": "198.51.100.0/25"},),
    "mgmt": ({"to": "10.9.0.0/16", "via": "10.20.0.9", "metric": 7},),
}


def test_networkd_knows_every_key_and_takes_what_is_unusual(tmp_path: Path) -> None:
    interfaces = {name: {**one, "routes": ROUTES.get(name, ())} for name, one in UNUSUAL.items()}
    subject = Host.model_validate({"name": "node7", "interfaces": interfaces})
    # As they are, too: on a virtual NIC these files match nothing, and are only read.
    for name, text in networkd.files(subject, HOSTED).items():
        if b"PermanentMACAddress=" in text:
            (tmp_path / f"99-{name}").write_bytes(text)
    (tmp_path / "99-wrong.network").write_text("[Match]\nName=none\n[Network]\nNonsense=yes\n")
    show = "ip -j route >routes; ip -j -d link >links; cp /run/systemd/netif/state state"
    parts = ("169.254 routes", "10.20.0.9 routes", "DOMAINS=example state", "br-trunk links", "1400 links")
    until = f"{show}; {' && '.join(f'grep -q {part}' for part in parts)}"
    run(subject, tmp_path, MACHINE_IDS[0], until, HOSTED)
    complaints = re.findall(r"^/run/systemd/network/(\S+?):.*", (tmp_path / "networkd.log").read_text(), re.MULTILINE)
    assert complaints == ["99-wrong.network"], (tmp_path / "networkd.log").read_text()
    routes = {(r["dst"], r["dev"]): r for r in json.loads((tmp_path / "routes").read_text())}
    default, device = routes["default", "cli0"], routes["198.51.100.0/25", "cli0"]
    assert (default["gateway"], default["metric"], default["flags"]) == ("169.254.0.1", 100, ["onlink"])
    assert (device["scope"], device["metric"], "gateway" in device) == ("link", 100, False)
    assert (routes["10.9.0.0/16", "cli1"]["gateway"], routes["10.9.0.0/16", "cli1"]["metric"]) == ("10.20.0.9", 7)
    assert "DOMAINS=example.org lab.example.org example.com\n" in (tmp_path / "state").read_text()
    links = {link["ifname"]: link for link in json.loads((tmp_path / "links").read_text())}
    assert links["cli1"]["mtu"] == 1400
    made_by_the_kernel(links)


def made_by_the_kernel(links: dict[str, Any]) -> None:
    """What the devices are, as far as this kernel can make them."""
    wanted: dict[str, dict[str, Any]] = {
        "xor": {"mode": "balance-xor", "xmit_hash_policy": "layer2+3", "miimon": 100},
        "tlb": {"mode": "balance-tlb", "xmit_hash_policy": "layer3+4"},
        "alb": {"mode": "balance-alb"},
        "lacp": {"mode": "802.3ad", "ad_lacp_rate": "slow", "min_links": 2},
        "br-trunk": {"stp_state": 0},
    }
    made = {name: links[name]["linkinfo"]["info_data"] for name in wanted if name in links}
    if "vlan_default_pvid" in made["br-trunk"]:
        wanted["br-trunk"] |= {"vlan_filtering": 1, "vlan_default_pvid": 0}
    assert {name: {key: has[key] for key in wanted[name]} for name, has in made.items()} == {
        name: wanted[name] for name in made
    }
