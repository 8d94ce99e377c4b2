"""What a booted host lets through: nobody on it or behind it gets its seed, and after a crash it boots by itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.demo.show import wait_up
from provision.demo.site import INVENTORY, MAC
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from tests.boot.test_host_image_media import HostSite
from tests.boot.wire import Sent

# What the site's `alive_seconds` is while a host is up, and the same for a server that must soon count a crashed host
# as down.
LONG, SHORT = 3600, 20
SEED = "http://10.77.1.1/boot/seed/current/seed.cpio"
OURS = INVENTORY.replace("  base: demo\n", f"  base: demo\n  policy: {{alive_seconds: {SHORT}}}\n").replace(
    "    labels: {rack: demo}\n", "    labels: {rack: demo}\n    netboot: always\n"
)
# Says how the asking ended, too: 143 is when nothing has come of it, 139 would be a program that never asked.
GET = f'{{ timeout 10 wget -q -O - {SEED}; echo "status $?" >&2; }} | head -c 6'
REJECTED = "can't connect to remote host"
# A guest behind the host's NAT, at a site whose own rules let it out everywhere.
NAT = """
set -e
sysctl -q -w net.ipv4.ip_forward=1
nft add table ip site
nft add chain ip site out '{ type nat hook postrouting priority srcnat; }'
nft add rule ip site out oifname != site masquerade
nft add chain ip site in '{ type nat hook prerouting priority dstnat; }'
nft add rule ip site in iifname site tcp dport 8080 dnat to 10.77.1.1:80
nft add chain ip site pass '{ type filter hook forward priority -400; policy accept; }'
nft insert rule inet host forward accept
ip netns add guest
ip link add site type veth peer name eth0 netns guest
ip addr add 10.66.0.1/24 dev site
ip link set site up
ip -n guest addr add 10.66.0.2/24 dev eth0
ip -n guest link set eth0 up
ip -n guest route add default via 10.66.0.1
"""
# Its firmware takes the seed for its boot file: iPXE in the guest fetches it through QEMU's own sockets. Firmware that
# finds nothing to boot starts over at once, which ends the emulator.
QEMU = (
    "timeout 100 qemu-system-x86_64 -accel kvm -accel tcg -machine q35,graphics=off -m 128 -nodefaults -no-reboot"
    f" -boot reboot-timeout=1 -display none -serial stdio -netdev user,id=n,bootfile={SEED}"
    " -device e1000,netdev=n,romfile=pxe-e1000.rom,bootindex=1 </dev/null"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostSite]:
    with Lab("isup", tmp_path_factory.mktemp("isup")) as lab:
        site = HostSite(lab, OURS)
        site.serve()
        site.dhcp()
        yield site


def machine(site: HostSite) -> Machine:
    forget_keys(site)
    return Machine("up", nics=(Nic(site.mgmt, MAC),), order=(Device.NETWORK,), memory=900, firmware_text=True)


def by_http(site: HostSite) -> Machine:
    """The same by UEFI's HTTP Boot. GRUB starts it over by a reset, which would end the emulator."""
    forget_keys(site)
    nics, reset = (Nic(site.mgmt, MAC),), ("-action", "reboot=reset")
    return Machine("http", Firmware.UEFI, nics, (Device.NETWORK,), 900, http_boot=True, extra=reset)


def forget_keys(site: HostSite) -> None:
    """The image makes its SSH keys anew at each boot."""
    Path(f"{site.identity}.known").unlink(missing_ok=True)


def on_host(site: HostSite, line: str) -> str:
    """What a line of shell prints on the host, whether it succeeds or not."""
    said = site.ssh(shell(f"{{ {line}\n}} 2>&1; true"))
    assert "Segmentation" not in said, f"{line}: {said}"
    return said


def shell(line: str) -> str:
    return f"sh -c {shlex.quote(line)}"


def asked(site: HostSite) -> int:
    """How often the server has refused the host's seed because it is up."""
    denied = [e for e in site.json("audit", "--host", "node1", "--limit", "500") if e.get("rule") == "host-is-up"]
    return sum(e.get("count", 1) for e in denied)


def counts_as_up(site: HostSite, seconds: int) -> None:
    """Let a host count as up for so long after it last said so."""
    text = site.inventory.read_text()
    site.inventory.write_text(re.sub(r"alive_seconds: \d+", f"alive_seconds: {seconds}", text))
    site.call("apply", site.inventory)


def comes_up(site: HostSite, vm: VM, medium: str = "pxe") -> str:
    """Wait until the host is up, and let it count as up from then on; returns when it said so."""
    vm.wait_for(r"^ +system +running$", 900)
    wait_up(site, vm, medium)
    counts_as_up(site, LONG)
    return str(site.json("status", "node1")["hosts"][0]["up"])


def nobody_gets_through(site: HostSite) -> None:
    """Unprivileged processes, root's own, a guest behind NAT, and guests whose network is a process of QEMU."""
    on_host(site, NAT)
    on_host(site, "mkdir -p /run/guest && chmod 0777 /run/guest")
    as_nobody = "systemd-run -q --wait --pipe -p User=nobody"
    guest = "ip netns exec guest"
    asks = {
        "a process of nobody": (f"{as_nobody} {shell(GET)}", REJECTED),
        "a process of root": (GET, REJECTED),
        "a process of another's group": (f"{as_nobody} -p Group=provision {shell(GET)}", REJECTED),
        "a guest behind NAT": (f"{guest} {shell(GET)}", "status 143"),
        "the same by NAT of the other end": (
            f"{guest} {shell(GET.replace('10.77.1.1', '10.66.0.1:8080'))}",
            "status 143",
        ),
    }
    for who, (line, end) in asks.items():
        said = on_host(site, line)
        assert "070701" not in said and end in said, f"{who}: {said}"
    assert "pong" in on_host(site, "ip netns exec guest ping -q -c1 -W2 10.77.1.1 >/dev/null && echo pong"), (
        "it has a way"
    )
    for who, prefix in {
        "a user-mode guest of root": "",
        "a user-mode guest of libvirt": "systemd-run -q --wait --pipe -p User=libvirt-qemu -p SupplementaryGroups=kvm ",
    }.items():
        said = on_host(site, f"{prefix}{shell(QEMU)}")
        assert SEED in said, f"{who} has not asked: {said[-2000:]}"
        assert f"{SEED}... ok" not in said, who


def the_server_gives_nothing(site: HostSite) -> None:
    """With the packet filter out of the way, as on an image that has none, there is the server's own rule."""
    before = asked(site)
    # The agent would bring the rules back, perhaps before root has asked.
    agent = "systemctl kill -s {} provision-alive.service"
    said = on_host(site, f"{agent.format('STOP')}; nft flush ruleset; {GET}; {agent.format('CONT')}")
    assert "403" in said and "070701" not in said, said
    assert asked(site) > before
    said = on_host(site, "systemctl reload nftables.service; nft list tables")
    assert "table inet provision" in said, "a reload brings the guard back"
    row = site.json("status", "node1")["hosts"][0]
    assert [alert["event"] for alert in row["alerts"]] == ["host-is-up"] and row["heard"]


def nobody_on_it_gets_its_seed(site: HostSite) -> None:
    before = asked(site)
    with site.mgmt.capture() as capture:
        nobody_gets_through(site)
    sent = Sent.over(capture)
    assert not sent.has(b"GET /boot/seed"), "a request left the host"
    assert asked(site) == before, "a request came to the server"
    the_server_gives_nothing(site)


def shuts_down(site: HostSite, vm: VM) -> None:
    """Says so, and needs no waiting."""
    on_host(site, "systemctl poweroff")
    vm.wait_off(120)
    assert [e["host"] for e in site.json("audit", "--host", "node1", "--limit", "500") if e["event"] == "down"]


@pytest.mark.long
def test_nobody_on_a_host_that_is_up_gets_its_seed(site: HostSite) -> None:
    counts_as_up(site, SHORT)
    with VM(site.lab, machine(site)) as vm:
        comes_up(site, vm)
        nobody_on_it_gets_its_seed(site)
        shuts_down(site, vm)


@pytest.mark.long
def test_what_it_boots_after_a_shutdown_and_after_a_crash(site: HostSite) -> None:
    counts_as_up(site, SHORT)
    with VM(site.lab, machine(site)) as vm:
        first = comes_up(site, vm)
        shuts_down(site, vm)
    with VM(site.lab, by_http(site)) as vm:
        assert comes_up(site, vm, "http-boot") != first
        assert "host-is-up" not in vm.console
    # The power is cut, and comes back at once: while the host counts as up, each loader starts over by itself.
    with VM(site.lab, by_http(site)) as vm:
        vm.wait_for(r"\(rule: host-is-up\)(?s:.*)trying again in 10 seconds(?s:.*)\(rule: host-is-up\)", 300)
        assert vm.console.count("BdsDxe: starting") >= 2
    before = asked(site)
    with VM(site.lab, machine(site)) as vm:
        vm.wait_for("Boot failed: press a key to retry, or wait for reset", 300)
        counts_as_up(site, SHORT)
        vm.wait_for(r"node1 boots from the network", 300)
        assert vm.console.count("PXELINUX") >= 2 and asked(site) > before, "it started over by itself"
