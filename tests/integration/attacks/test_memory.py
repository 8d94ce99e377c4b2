"""2,048 connections that hold whatever a connection can hold: what each of them costs the server in memory.

A quarter of them is opened, and what they cost is counted for all: what one connection may hold does not depend on how
many there are. They are one machine's whose MAC the inventory has, with bounds that let it have all.
"""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tests.integration.attacks.site
from provision.demo.site import SETTINGS
from provision.lab.lans import inside
from tests.integration.attacks.site import GUEST, MAC, AttackSite, attack_site, http, pxe

DOCUMENTED = 200 * 1024 * 1024
"""Bytes for all connections of a listener, as docs/deployment.md says."""

ALL, OPENED = 2048, 512
BOUNDS = "max_connections = 2048\nmax_connections_per_peer = 4096\nheader_timeout = 120\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.integration.attacks.site, "SETTINGS", BOUNDS + SETTINGS)
        with attack_site(tmp_path_factory.mktemp("memory")) as site:
            yield site


@pytest.fixture(scope="module")
def idle(site: AttackSite) -> int:
    """The server's memory before anybody came. What was free once and is used again would count for nothing later."""
    http(site.attacker, GUEST, f"/pxe/{pxe('node1')}")
    return memory(site)


@pytest.fixture(scope="module")
def crowd(site: AttackSite) -> str:
    """A namespace on the guest LAN whose NIC has a known host's MAC."""
    name: str = site.guest.host("crowd", "10.77.2.40/24", mac=MAC["node1"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    return name


def memory(site: AttackSite) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{site.server.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def connections(site: AttackSite) -> int:
    """Connections that the server has accepted."""
    rows = Path(f"/proc/{site.server.pid}/net/tcp").read_text().splitlines()[1:]
    fields = [row.split() for row in rows]
    return sum(one[1].endswith(":0050") and one[3] == "01" for one in fields)


def hold(namespace: str, data: bytes, count: int) -> list[socket.socket]:
    """Connections that send `data` and never read; their small windows close at once."""
    held = []
    with inside(namespace):
        for _ in range(count):
            sock = socket.socket()
            held.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.settimeout(10)
            sock.connect((GUEST, 80))
            with contextlib.suppress(OSError):
                sock.sendall(data)
    return held


def large(first: bytes, end: bytes = b"\r\n") -> bytes:
    """A header that just fits, of the fields that cost most."""
    short = b"".join(b"h%02d: v\r\n" % number for number in range(40))
    return first + short + b"Host: " + b"x" * (8100 - len(first) - len(short) - len(end)) + b"\r\n" + end


def asked(site: AttackSite, path: str) -> bytes:
    return large(f"GET {path} HTTP/1.1\r\n".encode())


HALF = b"Content-Length: 4096\r\n\r\n"
KINDS: dict[str, Callable[[AttackSite], bytes]] = {
    "a header that does not end": lambda site: large(b"GET / HTTP/1.1\r\n", b""),
    "a path that does not end": lambda site: b"GET /" + b"x" * 8000,
    "half a body": lambda site: large(b"POST /up HTTP/1.1\r\n", HALF) + b"x" * 4000,
    "a body in chunks": lambda site: (
        large(b"POST /up HTTP/1.1\r\n", b"Transfer-Encoding: chunked\r\n\r\n") + b"1\r\nx\r\n" * 600
    ),
    "a body for a file": lambda site: (
        large(f"GET /boot/{site.base}/kernel HTTP/1.1\r\n".encode(), HALF) + b"x" * 4096 + b"GET / HTTP/1.1\r\n" * 100
    ),
    "a kernel that is not read": lambda site: asked(site, f"/boot/{site.base}/kernel"),
    "a boot loader that is not read": lambda site: asked(site, "/pxe/ldlinux.c32"),
    "an ISO that is not read": lambda site: asked(site, "/http-boot/boot.iso"),
    "many answers that are not read": lambda site: f"GET /pxe/{pxe('node1')} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 40,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_connection_holds_is_bounded(
    site: AttackSite, idle: int, crowd: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    held = hold(crowd, KINDS[kind](site), OPENED)
    try:
        end = time.monotonic() + 60
        while connections(site) < OPENED or http(site.attacker, GUEST, f"/pxe/{pxe('node1')}").rule != "foreign-mac":
            assert time.monotonic() < end
        each = (memory(site) - idle) / OPENED
        record_property("KiB for each connection", round(each / 1024, 1))
        assert each * ALL < DOCUMENTED
    finally:
        for sock in held:
            sock.close()
    while connections(site):  # what one kind held is free before the next
        time.sleep(0.1)
