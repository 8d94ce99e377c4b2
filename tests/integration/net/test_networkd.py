"""What systemd-networkd makes of the rendered files: addresses and routes, in namespaces of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from provision import proc
from provision.host import Host
from provision.render import networkd
from tests.helpers.rendering import HOSTS, SITE, host, nic

SCRIPT = Path(__file__).with_name("networkd.sh")
MACHINE_IDS = ("1" * 12 + "4111" + "8" + "1" * 15, "2" * 12 + "4222" + "8" + "2" * 15)


def run(subject: Host, directory: Path, machine_id: str, until: str) -> None:
    """Start networkd with the host's files, and wait until the shell command `until` holds in `directory`."""
    directory.mkdir(exist_ok=True)
    for name, text in networkd.files(subject, SITE).items():
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
