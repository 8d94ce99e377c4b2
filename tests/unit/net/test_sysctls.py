"""The kernel's switches: what is in force, and what is said of it."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.net import sysctls
from provision.net.interfaces import look
from tests.helpers.netns import isolated, lan, sh

PREFIX = IPv4Network("192.0.2.0/24")
GOOD = {"rp_filter": 1, "arp_ignore": 1, "arp_accept": 0, "accept_ra": 0}


def said(values: dict[str, int], limits: tuple[int, int, int] | None = (128, 512, 1024)) -> list[str]:
    return [str(one) for one in sysctls.advise("eth1", PREFIX, GOOD | values, limits)]


def test_nothing_is_said_of_what_is_right_or_unknown() -> None:
    assert said({}) == said({}, None) == said({"arp_ignore": 2}) == []
    assert list(sysctls.advise("eth1", PREFIX, {}, None)) == []


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"rp_filter": 0}, "sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=1"),
        ({"rp_filter": 2}, "sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=1"),
        ({"arp_ignore": 0}, "sysctl net.ipv4.conf.eth1.arp_ignore=1"),
        ({"accept_ra": 1}, "sysctl net.ipv6.conf.eth1.accept_ra=0"),
        ({"arp_accept": 1}, "sysctl net.ipv4.conf.all.arp_accept=0 net.ipv4.conf.eth1.arp_accept=0"),
    ],
)
def test_each_has_the_line_to_run(values: dict[str, int], line: str) -> None:
    (text,) = said(values)
    assert text.endswith(line) and "eth1" in text and "\n" not in text


def test_the_table_has_room_for_the_prefix() -> None:
    (text,) = said({}, (128, 256, 300))
    assert "gc_thresh3=1024" in text and "gc_thresh2=512" in text
    (text,) = map(str, sysctls.advise("eth1", IPv4Network("10.0.0.0/16"), GOOD, (128, 512, 1024)))
    assert "65536" in text and "gc_thresh3=131584" in text


def test_what_the_kernel_does_not_show_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctls, "_NET", tmp_path)
    assert sysctls.read("eth1") == {} and sysctls.neighbour_limits() is None
    assert not sysctls.forwards("eth1") and not sysctls.forwards6("eth1")
    conf = tmp_path / "ipv6" / "conf"
    for name, key, value in (("eth1", "disable_ipv6", "0"), ("all", "forwarding", "1"), ("eth1", "forwarding", "0")):
        (conf / name).mkdir(parents=True, exist_ok=True)
        (conf / name / key).write_text(f"{value}\n")
    assert sysctls.forwards6("eth1"), "of IPv6 only 'all' counts"
    (conf / "all" / "forwarding").write_text("0")
    assert not sysctls.forwards6("eth1")
    (conf / "eth1" / "force_forwarding").write_text("1")
    assert sysctls.forwards6("eth1")
    (conf / "eth1" / "disable_ipv6").write_text("1")
    assert not sysctls.forwards6("eth1")


@pytest.mark.integration
@isolated
def test_the_larger_value_is_in_force() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"):
        for everywhere, own, wanted in ((0, 1, 1), (2, 1, 2), (1, 0, 1), (0, 0, 0)):
            sh(f"sysctl -q net.ipv4.conf.all.rp_filter={everywhere} net.ipv4.conf.eth1.rp_filter={own}")
            assert look().interfaces["eth1"].sysctl["rp_filter"] == wanted
        sh("sysctl -q net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth1.disable_ipv6=0")
        assert look().interfaces["eth1"].forwarding6
        sh("sysctl -q net.ipv6.conf.eth1.disable_ipv6=1")
        assert not look().interfaces["eth1"].forwarding6


@pytest.mark.integration
@isolated
def test_the_lines_do_what_they_are_for() -> None:
    """ARP from outside of the prefix costs entries before the lines were run, and none after."""
    claim = "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); "
    claim += "mac = s.getsockname()[4]; ip = socket.inet_aton; "
    claim += "head = bytes.fromhex('000108000604') + b'\\0\\1'; "
    claim += "[s.send(b'\\xff' * 6 + mac + b'\\x08\\x06' + head + mac + ip(sys.argv[1] + str(n)) + bytes(6) "
    claim += "+ ip('192.0.2.1')) for n in range(1, 60)]"
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24") as there:
        sh("sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0")
        there.sh(f'python3 -c "{claim}" 198.18.0.')
        assert "198.18.0." in sh("ip neigh show dev eth1")
        sh("ip neigh flush dev eth1")
        for advice in sysctls.advise("eth1", PREFIX, look().interfaces["eth1"].sysctl, None):
            sh(advice.remedy.replace("sysctl", "sysctl -q"))
        assert list(sysctls.advise("eth1", PREFIX, look().interfaces["eth1"].sysctl, None)) == []
        there.sh(f'python3 -c "{claim}" 198.18.0.')
        there.sh("ping -c 1 -W 5 192.0.2.1")
        assert "198.18.0." not in sh("ip neigh show dev eth1")
        assert "192.0.2.7" in sh("ip neigh show dev eth1")
