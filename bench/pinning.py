"""What asking a host and pinning its address cost: the part of a seed's release that a configuration does not have.

The first row is `Pins.pin` and the release of it as the service does them: an order to the helper, the host's answer by
ARP, the neighbour entry made permanent, and the kernel's news of that. Its peer is the physical floor: one question and
answer by a packet socket, and nothing else. The second is a host's whole seed by HTTP, from the request to the last
byte, against its configuration: beside the pin a seed has a durable audit entry, a charge, and opened credentials. Each
host asks once, one after the other, over a wire between two namespaces.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from ipaddress import IPv4Address

from bench import site
from bench.common import Row, paired, process, python, table
from provision import boot_paths
from provision.boot_paths import PxelinuxConfig, SeedFile
from provision.net import arp
from provision.net.neighbours import Neighbours
from provision.net.pins import Helper, Pins, Place

PINS, HOSTS = 200, 41
PORT = 80


def floor(place: Place) -> float:
    """Seconds from asking the MAC by ARP to its answer, by one socket."""
    mac = arp.mac_bytes(place.mac)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(arp.ETHERTYPE)) as raw:
        raw.bind((site.INTERFACE, arp.ETHERTYPE))
        raw.settimeout(5)
        own_mac: bytes = raw.getsockname()[4]
        start = time.perf_counter()
        raw.send(arp.request(own_mac, place.own.packed, mac, place.address.packed))
        while (said := arp.parse(raw.recv(2048))) is None or said.source != mac:
            pass
        return time.perf_counter() - start


async def _pinned(pins: Pins, place: Place) -> float:
    start = time.perf_counter()
    pin = await pins.pin(place)
    seconds = time.perf_counter() - start
    if pin is None:
        raise SystemExit(f"{place.address} did not answer")
    start = time.perf_counter()
    pin.release()
    return seconds + time.perf_counter() - start


async def pin(pairs: int) -> list[tuple[float, float]]:
    """Seconds of (pinning and releasing, the ARP exchange alone) for host 0, in the server's namespace."""
    index = socket.if_nametoindex(site.INTERFACE)
    place = Place(index, IPv4Address(site.SERVER), site.address(0), site.mac(0))
    with Neighbours() as neighbours:
        pins = Pins(Helper.start(), neighbours)
        try:
            return [(await _pinned(pins, place), floor(place)) for _ in range(pairs)]
        finally:
            pins.close()


def _get(sock: socket.socket, path: str) -> float:
    """Seconds from a request on a kept connection to the last byte of its answer."""
    start = time.perf_counter()
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {site.SERVER}\r\n\r\n".encode())
    got, wanted = b"", 0
    while not wanted or len(got) < wanted:
        part = sock.recv(1 << 20)
        if not part:
            raise SystemExit(f"{path}: the server closed the connection")
        got += part
        head, end, _ = got.partition(b"\r\n\r\n")
        if end and not wanted:
            found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or found is None:
                raise SystemExit(f"{path}: unexpected answer: {head[:200]!r}")
            wanted = len(head) + 4 + int(found[1])
    return time.perf_counter() - start


def ask(number: int) -> tuple[float, float]:
    """Seconds of (the seed, the configuration) of a host, from its own address and MAC, in the hosts' namespace."""
    subprocess.run(["ip", "link", "set", "eth0", "address", site.mac(number)], check=True)
    paths = [boot_paths.http(PxelinuxConfig(site.mac(number))), boot_paths.http(SeedFile(None))]
    with socket.create_connection((str(site.SERVER), PORT), 10, (str(site.address(number)), 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        configuration, seed = [_get(sock, path) for path in paths]
    return seed, configuration


def main(pins: int = PINS, hosts: int = HOSTS) -> list[Row]:
    """Measure, print the table, return its rows. The first of the hosts is not counted."""
    with ExitStack() as stack:
        state = site.make_site(stack, hosts)
        server, others = stack.enter_context(site.lan(hosts))
        # What the host says counts, and not what somebody has written down.
        server.run(["ip", "neigh", "flush", "nud", "permanent", "dev", site.INTERFACE])
        others.run(["ip", "link", "set", "eth0", "address", site.mac(0)])
        alone = json.loads(server.run(python("bench.pinning", "pin", str(pins))))
        serve = server.argv(python("provision", "--state", state, "serve"))
        stack.enter_context(process(serve, lambda: bool(server.run(["ss", "-Hltn", f"sport = :{PORT}"]))))
        both = json.loads(others.run(python("bench.pinning", "ask", str(hosts))))[1:]
    rows = [
        paired("a host asked, pinned and let go / the ARP exchange alone", "ms", "none", _ms(alone)),
        paired("a seed, asked and pinned / the host's configuration", "ms", "none", _ms(both)),
    ]
    print(table(rows))
    return rows


def _ms(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(1000 * ours, 1000 * peer) for ours, peer in pairs]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pin", count]:
            print(json.dumps(asyncio.run(pin(int(count)))))
        case ["ask", count]:
            print(json.dumps([ask(number) for number in range(int(count))]))
        case _:
            main()
