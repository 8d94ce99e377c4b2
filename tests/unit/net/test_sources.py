"""Whom a listening socket hears; the filter is the kernel's own to judge."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.net.sources import Sources, by_loopback, hear_only, keep_first_packet, program, sources
from tests.helpers.netns import isolated, lan, sh

LAN = IPv4Network("192.0.2.0/24")


def test_prefixes_are_joined() -> None:
    halves = [IPv4Network("192.0.2.0/25"), IPv4Network("192.0.2.128/25"), IPv4Network("192.0.2.9/32")]
    found = sources(halves, [IPv4Address("192.0.2.1"), IPv4Address("127.0.0.1")])
    assert found == Sources((LAN,), (IPv4Network("127.0.0.0/8"), IPv4Network("192.0.2.1/32")))


def test_a_filter_is_short() -> None:
    assert len(program(Sources((LAN,), (IPv4Network("192.0.2.1/32"),)))) == 5 + 5 + 5


def heard(sock: socket.socket) -> set[bytes]:
    found = set()
    sock.settimeout(0.3)
    while True:
        try:
            found.add(sock.recv(100))
        except TimeoutError:
            return found


@pytest.mark.integration
@isolated
def test_who_is_heard() -> None:
    shout = 'python3 -c "import socket, sys; s = socket.socket(2, 2); s.bind((sys.argv[1], 0)); '
    shout += "s.sendto(sys.argv[1].encode(), ('192.0.2.1', 6969))\" "
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24") as there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sh("sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0")
        there.sh("ip addr add 203.0.113.7/32 dev eth0 && ip addr add 198.18.0.7/32 dev eth0")
        sock.bind(("192.0.2.1", 6969))

        def all_shout() -> set[bytes]:
            for source in ("192.0.2.7", "203.0.113.7", "198.18.0.7"):
                there.sh(shout + source)
            for source in ("192.0.2.1", "127.0.0.1"):
                sh(shout + source)
            return heard(sock)

        everybody = all_shout()
        assert everybody == {b"192.0.2.7", b"203.0.113.7", b"198.18.0.7", b"192.0.2.1", b"127.0.0.1"}
        own = [IPv4Address("192.0.2.1")]
        hear_only(sock, sources([LAN], own))
        assert all_shout() == {b"192.0.2.7", b"192.0.2.1", b"127.0.0.1"}
        hear_only(sock, sources([LAN, IPv4Network("203.0.113.0/24")], []))
        assert all_shout() == {b"192.0.2.7", b"203.0.113.7", b"127.0.0.1"}, "the server's address is no host's"
        many = [IPv4Network((n << 16, 28)) for n in range(1, 2000)]
        hear_only(sock, sources(many, own))
        assert all_shout() == everybody, "too many for a filter"
        hear_only(sock, sources([LAN, *many[:600]], own))
        assert all_shout() == {b"192.0.2.7", b"192.0.2.1", b"127.0.0.1"}
        hear_only(sock, sources([IPv4Network("0.0.0.0/0")], own))
        assert all_shout() == everybody


@pytest.mark.integration
@isolated
def test_a_syn_from_elsewhere_is_not_answered() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24") as there, socket.socket() as listener:
        sh("sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0")
        sh("ip route add 198.18.0.0/16 dev eth1")
        there.sh("ip addr add 198.18.0.7/32 dev eth0")
        listener.bind(("192.0.2.1", 8080))
        listener.listen()
        dial = "timeout 1 python3 -c \"import socket; socket.create_connection(('192.0.2.1', 8080), 5, ('{}', 0))\""
        there.sh(dial.format("198.18.0.7"))
        hear_only(listener, sources([LAN], []))
        there.sh("! " + dial.format("198.18.0.7"))
        there.sh(dial.format("192.0.2.7"))


@pytest.mark.integration
@isolated
def test_a_local_connection_is_told_by_its_first_packet() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24") as there, socket.create_server(("192.0.2.1", 8080)) as listener:

        def told() -> bool:
            connection, _ = listener.accept()
            with connection:
                return by_loopback(connection.fileno())

        local = socket.create_connection(("192.0.2.1", 8080))
        assert not told(), "nothing was kept"
        keep_first_packet(listener)
        local.close()
        local = socket.create_connection(("192.0.2.1", 8080))
        assert told()
        local.close()
        there.sh("timeout 5 bash -c '</dev/tcp/192.0.2.1/8080'")
        assert not told()
        assert not by_loopback(local.fileno())
