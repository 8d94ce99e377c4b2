"""A boot storm: 500 hosts take configuration, kernel, initrd and seed at once, while somebody follows in a browser.

Kernel and initrd are as large as the host image for common hardware. Ours is `provision serve` as it is, one process:
each host has a MAC and an address of its own, is asked by ARP, gets its own seed, and is charged a boot. The peer is
nginx with one worker and the same bytes as static files, alike for all hosts. Both are asked by the same client, one
connection for each host, which takes the four one after the other. What the client cannot take any faster makes both
look alike, so there is a row for each second of the server's processor. The last row is how long it takes until 99 of
100 hosts have their seed. The browser has the page of a host open, over TLS, and must have been shown that it got its
seed. A host that gets anything but the four ends the benchmark.
"""

from __future__ import annotations

import json
import re
import selectors
import shutil
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import site
from bench.browsers import Door, opened
from bench.common import Row, note, paired, process, processor, python, table, workspace
from provision import boot_paths
from provision.boot_paths import PxelinuxConfig

HOSTS, PAIRS, INITRD = 500, 3, 44 * site.MIB
PORT, PEER_PORT, API_PORT = 80, 8081, 8443
GOAL = ">= 0.8"
_WAIT = 120
_SAMPLE = "/configuration"
_PARTS = ("configuration", "kernel", "initrd", "seed")
_NGINX = """\
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; default_type application/octet-stream;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
  uwsgi_temp_path {root}; scgi_temp_path {root};
  server {{ listen {address}:{port}; root {root}/static; }}
}}
"""


@dataclass
class Host:
    """One host's connection, which takes one path after the other; those after the first are in what that gives."""

    number: int
    port: int
    paths: list[str]
    buffer: bytearray
    keep: bool = False
    seconds: list[float] = field(default_factory=list)
    bodies: list[tuple[str, int, bytes]] = field(default_factory=list)
    _head: bytes = b""
    _left: int = -1
    _size: int = 0
    _body: bytearray = field(default_factory=bytearray)

    def begin(self, device: str) -> socket.socket:
        """Connect by its own NIC and address, and ask for the first."""
        self.start, self.sock = time.perf_counter(), socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        self.sock.bind((str(site.address(self.number)), 0))
        self.sock.settimeout(_WAIT)
        self.sock.connect((str(site.SERVER), self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask()
        return self.sock

    def _ask(self) -> None:
        self._head, self._left = b"", -1
        self._body.clear()
        self.sock.sendall(f"GET {self.paths[0]} HTTP/1.1\r\nHost: {site.SERVER}\r\n\r\n".encode())

    def take(self) -> bool:
        """Take what has come; whether it has all of its paths now."""
        part = memoryview(self.buffer)[: self.sock.recv_into(self.buffer)]
        if not part:
            raise SystemExit(f"{self.paths[0]}: the server closed the connection of {site.name(self.number)}")
        if self._left < 0:
            self._head += part
            head, end, rest = self._head.partition(b"\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if end and (found is None or not head.startswith(b"HTTP/1.1 200")):
                raise SystemExit(f"{self.paths[0]}: {site.name(self.number)} was answered {head[:200]!r}")
            if not end or found is None:
                return False
            self._size = self._left = int(found[1])
            part = memoryview(rest)
        self._left -= len(part)
        if self.keep or not self.bodies:
            self._body += part
        return self._left == 0 and self._next()

    def _next(self) -> bool:
        path = self.paths.pop(0)
        if not self.bodies:
            self.paths += named(bytes(self._body))
        self.bodies.append((path, self._size, bytes(self._body)))
        self.seconds.append(time.perf_counter() - self.start)
        if self.paths:
            self._ask()
            return False
        self.sock.close()
        return True


def named(configuration: bytes) -> list[str]:
    """The paths of kernel, initrds and seed in a configuration of PXELINUX."""
    found = re.search(rb"LINUX http://[^/]+(\S+)\s+INITRD (\S+)", configuration)
    if found is None:
        raise SystemExit(f"not a configuration to boot by: {configuration[:300]!r}")
    return [found[1].decode(), *(re.sub("^http://[^/]+", "", url) for url in found[2].decode().split(","))]


def storm(port: int, first: int, count: int, keep: Path | None) -> dict[str, float]:
    """Let so many hosts take all at once; seconds until all and until 99 of 100 had it, and the bytes of all.

    With `keep`, what they got is written below that directory, by its path.
    """
    buffer, ours = bytearray(1 << 20), port == PORT
    with selectors.DefaultSelector() as selector:
        hosts = []
        start = time.perf_counter()
        for place in range(count):
            number = first + place
            path = boot_paths.http(PxelinuxConfig(site.mac(number))) if ours else _SAMPLE
            hosts.append(Host(number, port, [path], buffer, keep is not None))
            selector.register(hosts[-1].begin(f"h{place}"), selectors.EVENT_READ, hosts[-1])
        while selector.get_map():
            for key, _ in selector.select(_WAIT) or _silent():
                if key.data.sock.fileno() >= 0 and key.data.take():
                    selector.unregister(key.fileobj)
        took = time.perf_counter() - start
    for path, _, body in hosts[0].bodies if keep else ():
        file = keep / path.strip("/")  # type: ignore[operator]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    slow = statistics.quantiles([host.seconds[-1] for host in hosts], n=100)[-1] if count > 1 else took
    halves = {part: statistics.median(host.seconds[number] for host in hosts) for number, part in enumerate(_PARTS)}
    size = sum(size for host in hosts for _, size, _ in host.bodies)
    return {"seconds": took, "p99": slow, "bytes": size, **halves}


def _silent() -> list[tuple[selectors.SelectorKey, int]]:
    raise SystemExit(f"no answer for {_WAIT} s")


class Ground:
    """Both servers in a namespace of their own, and the hosts' NICs in another."""

    def __init__(self, stack: ExitStack, hosts: int, rounds: int, initrd: int) -> None:
        self._hosts, self._root = hosts, stack.enter_context(workspace("provision-bench-"))
        state = site.make_site(stack, hosts * rounds + 1, initrd)
        self._door: Door = opened(state, API_PORT)
        self._server, self._others = stack.enter_context(site.namespace()), stack.enter_context(site.namespace())
        self._wire()
        serve = self._server.argv(python("provision", "--state", state, "serve"))
        self.ours = stack.enter_context(process(serve, lambda: self._listens(PORT) and self._listens(API_PORT)))
        # One host more than the rounds have, for what the peer gives.
        static = self._root / "static"
        self._move(hosts * rounds, 1)
        self._ask(PORT, hosts * rounds, 1, static)
        (configuration,) = static.glob("pxe/pxelinux.cfg/*")
        shutil.copy(configuration, static / _SAMPLE.strip("/"))
        settings = self._root / "nginx.conf"
        settings.write_text(_NGINX.format(root=self._root, address=site.SERVER, port=PEER_PORT))
        nginx = self._server.argv(["nginx", "-p", self._root, "-c", settings])
        self.peer = stack.enter_context(process(nginx, lambda: self._listens(PEER_PORT)))

    def _listens(self, port: int) -> bool:
        return bool(self._server.run(["ss", "-Hltn", f"sport = :{port}"]))

    def _wire(self) -> None:
        wire = ["ip", "link", "add", site.INTERFACE, "type", "veth", "peer", "name", "eth0"]
        self._server.run([*wire, "netns", str(self._others.pid)])
        own = [f"addr add {site.SERVER}/{site.NETWORK.prefixlen} dev {site.INTERFACE}", f"link set {site.INTERFACE} up"]
        self._server.run(["ip", "-batch", "-"], "\n".join(own))
        quiet = "cd /proc/sys/net; echo 1 >ipv4/conf/all/arp_ignore; echo 2 >ipv4/conf/all/arp_announce"
        self._others.run(["sh", "-ec", f"{quiet}; echo 1 >ipv6/conf/all/disable_ipv6 || true"])
        nics = [f"link add link eth0 name h{n} type macvlan mode private" for n in range(self._hosts)]
        self._others.run(["ip", "-batch", "-"], "\n".join(["link set eth0 up", *nics]))
        shown = json.loads(self._server.run(["ip", "-json", "link", "show", site.INTERFACE]))
        self._mac = shown[0]["address"]

    def _move(self, first: int, count: int) -> None:
        """Let the NICs be those of the hosts from `first` on."""
        steps = []
        for place in range(count):
            nic, number = f"h{place}", first + place
            steps += [f"link set {nic} down", f"addr flush dev {nic}", f"link set {nic} address {site.mac(number)}"]
            steps += [f"addr add {site.address(number)}/{site.NETWORK.prefixlen} dev {nic}", f"link set {nic} up"]
            # The kernel counts what is asked of all namespaces together, and lets go of some beyond 512 (arp(7)).
            steps += [f"neigh replace {site.SERVER} lladdr {self._mac} dev {nic} nud permanent"]
        self._others.run(["ip", "-batch", "-"], "\n".join(steps))
        self._server.run(["ip", "neigh", "flush", "dev", site.INTERFACE])

    def _ask(self, port: int, first: int, count: int, keep: Path | None = None) -> dict[str, float]:
        arguments = [str(port), str(first), str(count), *([str(keep)] if keep else [])]
        answer: dict[str, float] = json.loads(self._others.run(python("bench.storm", "ask", *arguments)))
        return answer

    def pair(self, number: int) -> tuple[dict[str, float], dict[str, float]]:
        """One storm on ours, which is followed in a browser, and one on the peer."""
        first = number * self._hosts
        self._move(first, self._hosts)
        page = f"/hosts/{site.name(first)}/events"
        wanted = ["await", *self._door.arguments(), str(_WAIT), "seed done", page]
        watching = self._server.argv(python("bench.browsers", *wanted))
        with process(watching, self._watched) as browser:
            ours = self._costs(PORT, self.ours.pid, first)
            if browser.wait(_WAIT):
                raise SystemExit("the browser was not shown that the host got its seed")
        return ours, self._costs(PEER_PORT, self.peer.pid, first)

    def _watched(self) -> bool:
        return bool(self._server.run(["ss", "-Htn", "state", "established", f"sport = :{API_PORT}"]).splitlines()[1:])

    def _costs(self, port: int, pid: int, first: int) -> dict[str, float]:
        before = processor(pid)
        answer = self._ask(port, first, self._hosts)
        return answer | {"processor": max(processor(pid) - before, 0.01)}


def main(hosts: int = HOSTS, pairs: int = PAIRS, initrd: int = INITRD) -> list[Row]:
    """Measure, print the table, return its rows."""
    with ExitStack() as stack:
        ground = Ground(stack, hosts, pairs, initrd)
        found = [ground.pair(number) for number in range(pairs)]

    def of(field: str) -> list[tuple[float, float]]:
        return [tuple(one["bytes"] / one[field] / 1e9 for one in both) for both in found]  # type: ignore[misc]

    for place, who in enumerate(("ours", "the peer")):
        halves = (f"{statistics.median(both[place][part] for both in found):.2f} s {part}" for part in _PARTS)
        note(f"until half of the hosts had it from {who}: {', '.join(halves)}")
    size = found[0][0]["bytes"] / hosts / site.MIB
    rows = [
        paired(f"{hosts} hosts at once, {size:.0f} MiB each", "GB/s", GOAL, of("seconds")),
        paired("the same, of one core", "GB/s", "none", of("processor")),
        paired("until 99 of 100 have their seed", "s", "none", [(ours["p99"], peer["p99"]) for ours, peer in found]),
    ]
    print(table(rows))
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask", port, first, count, *keep]:
            print(json.dumps(storm(int(port), int(first), int(count), Path(keep[0]) if keep else None)))
        case _:
            main()
