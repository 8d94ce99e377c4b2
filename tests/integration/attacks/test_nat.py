"""NAT rules of the server's own firewall as a way to the management listeners, for guests and for local processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from provision import proc
from tests.integration.attacks.site import ADDRESS, GUEST, MGMT, AttackSite, attack_site, http, pxe, tftp

SEED = "boot/seed/current/seed.cpio"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with attack_site(tmp_path_factory.mktemp("nat")) as site:
        site.seed_of("node1")
        yield site


@contextlib.contextmanager
def nat(site: AttackSite, *chains: tuple[str, int, str]) -> Iterator[None]:
    """Rules in the server's namespace: hook, priority and rule of each chain."""
    text = "table ip attack {\n"
    for hook, priority, rule in chains:
        text += f"chain {hook} {{\ntype nat hook {hook} priority {priority};\n{rule}\n}}\n"
    argv = ["ip", "netns", "exec", site.lab.server, "nft"]
    proc.run([*argv, "-f", "-"], package="nftables", stdin=f"{text}}}\n".encode())
    try:
        yield
    finally:
        proc.run([*argv, "delete", "table", "ip", "attack"], package="nftables")


@pytest.mark.parametrize("hook", ["postrouting", "input"])
@pytest.mark.parametrize("host", ["node1", "node2"])
def test_a_local_process_with_a_hosts_address_gets_nothing(site: AttackSite, hook: str, host: str) -> None:
    """The kernel confirms the MAC of that address rightly: the host is there, and answers ARP."""
    rule = f"ip saddr {MGMT} ip daddr {MGMT} snat to {ADDRESS[host]}"
    site.seed_of(host)
    with nat(site, (hook, 100, rule)):
        for path in (SEED, f"pxe/{pxe(host)}", "http-boot/boot.iso"):
            answer = http(site.lab.server, MGMT, f"/{path}", timeout=1.5)
            assert not site.leaks(answer.raw) and answer.status in (0, 403, 200), path
            assert "boots from the network" not in answer.text
        for name in (SEED, pxe(host)):
            packet = tftp(site.lab.server, MGMT, name, timeout=1)
            assert not site.leaks(packet.raw) and "boots from the network" not in packet.text
    site.seed_of(host)


@pytest.mark.parametrize(
    "rule",
    [
        f"iifname guest tcp dport 8080 dnat to {MGMT}:80",
        f"iifname guest udp dport 8069 dnat to {MGMT}:69",
        "iifname guest tcp dport 8080 redirect to :80",
    ],
)
def test_no_rule_leads_from_the_guest_lan_to_the_management_listener(site: AttackSite, rule: str) -> None:
    hide = ("input", 100, f"iifname guest snat to {ADDRESS['node1']}")
    for more in ([], [hide]):
        with nat(site, ("prerouting", -100, rule), *more):
            for target in (GUEST, MGMT):
                assert not site.leaks(http(site.attacker, target, f"/{SEED}", port=8080, timeout=1).raw)
                assert not site.leaks(tftp(site.attacker, target, SEED, port=8069, timeout=0.5).raw)
    site.seed_of("node1")
