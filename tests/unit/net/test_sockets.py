"""Sockets on an address alone."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from provision.errors import Unavailable
from provision.net.sockets import bind_any


@pytest.mark.parametrize(("bound", "heard"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1")])
def test_an_address_is_heard(bound: str, heard: str) -> None:
    with bind_any(IPv6Address(bound) if ":" in bound else IPv4Address(bound), 0) as sock:
        socket.create_connection((heard, sock.getsockname()[1]), 10).close()


def test_the_wildcard_of_ipv6_hears_both() -> None:
    with bind_any(IPv6Address("::"), 0) as sock:
        for heard in ("127.0.0.1", "::1"):
            socket.create_connection((heard, sock.getsockname()[1]), 10).close()


def test_a_port_that_is_taken_is_told() -> None:
    with bind_any(IPv4Address("127.0.0.1"), 0) as sock:
        port = sock.getsockname()[1]
        for address in (IPv4Address("127.0.0.1"), IPv4Address("0.0.0.0")):
            with pytest.raises(Unavailable, match=f"TCP {address}:{port}: the port is taken; see 'ss"):
                bind_any(address, port)


@pytest.mark.parametrize("address", [IPv4Address("192.0.2.77"), IPv6Address("2001:db8::77")])
def test_an_address_of_another_machine_is_told(address: IPv4Address | IPv6Address) -> None:
    with pytest.raises(Unavailable, match="the server does not have the address"):
        bind_any(address, 0)
