"""What operators' browsers cost: pages, and what follows live.

- The page of all hosts, to its first byte over TLS: a site of 10,000 hosts against one of 100. It is in pages.
- 200 browsers, each with a session of its own, follow by server-sent events what happens on the large site, most of
  them on the page of all hosts. Meanwhile a window is opened every second. Ours is the service's CPU time with them,
  the peer the same without them, and the ratio the difference as a part of one core. Memory is what it has more than
  before.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import ssl
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlencode

from bench import site
from bench.common import Row, accepts, cpu_time, free_port, memory, paired, process, python, table, workspace
from provision import clock
from provision.api.tokens import NewToken
from provision.principal import PrincipalRole
from provision.tls import files
from provision.tls.authority import Names
from provision.web.pages.session import COOKIE

SMALL, LARGE, PAGES = 100, 10_000, 25
FOLLOWERS, SECONDS, TURNS = 200, 20.0, 3
_AT_HOSTS = 4
"""One of so many followers has the page of one host open."""

SETTINGS = """
[api]
address = "127.0.0.1"
port = {port}
certificate = "tls/server.pem"
key = "tls/server.key"
max_connections = 2048
max_connections_per_peer = 2048
"""


@dataclass(frozen=True)
class Door:
    """Where operators are served over TLS, and somebody's token."""

    port: int
    ca: Path
    token: str

    def connect(self) -> http.client.HTTPSConnection:
        """A connection."""
        context = ssl.create_default_context(cafile=str(self.ca))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)

    def log_in(self, connection: http.client.HTTPSConnection) -> str:
        """A new session; its cookie."""
        origin = f"https://127.0.0.1:{self.port}"
        sent = {"Origin": origin, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", urlencode({"token": self.token}), sent)
        answer = connection.getresponse()
        answer.read()
        found = re.match(rf"{COOKIE}=[^;]+", answer.getheader("Set-Cookie") or "")
        if answer.status != 303 or found is None:
            raise SystemExit(f"the login was answered {answer.status}")
        return found[0]

    def arguments(self) -> list[str]:
        """What another process makes it from again."""
        return [str(self.port), str(self.ca), self.token]


def opened(state: Path, port: int) -> Door:
    """Serve operators over TLS on a state directory that no process has open."""
    with (state / "provision.toml").open("a") as settings:
        settings.write(SETTINGS.format(port=port))
    files.create(state, Names(addresses=(IPv4Address("127.0.0.1"),)), clock.now())
    service = site.open_service(state)
    token = service.tokens.create(NewToken(name="bench", role=PrincipalRole.OPERATOR), site.OPERATOR).token
    service.close()
    return Door(port, state / "tls" / "ca.pem", token)


@dataclass(frozen=True)
class Running:
    """A service with hosts."""

    state: Path
    door: Door
    pid: int


def started(stack: ExitStack, hosts: int) -> Running:
    """A service with so many hosts, on nothing but its socket and TLS."""
    root = stack.enter_context(workspace("provision-bench-"))
    state, port = root / "state", free_port()
    site.make_state(state, listen=False)
    service = site.open_service(state)
    site.fill(service, hosts, root, 4096)
    service.close()
    door = opened(state, port)
    running = stack.enter_context(process(python("provision", "--state", state, "serve"), accepts(port)))
    return Running(state, door, running.pid)


# Pages


def _first_byte(connection: http.client.HTTPSConnection, cookie: str) -> float:
    """Milliseconds from the request for the page of all hosts to the first byte of the answer."""
    start = time.perf_counter()
    connection.request("GET", "/hosts", headers={"Cookie": cookie})
    answer = connection.getresponse()
    seconds = time.perf_counter() - start
    if answer.status != 200 or site.name(0).encode() not in answer.read():
        raise SystemExit(f"the page was answered {answer.status}")
    return 1000 * seconds


def pages(small: Running, large: Running, pairs: int) -> list[tuple[float, float]]:
    """First bytes of the page of the large site and of the small one, in turns."""
    connections = [(one.door.connect(), one.door) for one in (large, small)]
    known = [(connection, door.log_in(connection)) for connection, door in connections]
    for one in known:
        _first_byte(*one)
    return [(_first_byte(*known[0]), _first_byte(*known[1])) for _ in range(pairs)]


# Followers


async def follow(door: Door, paths: list[str], seconds: float, wanted: str = "") -> dict[str, int]:
    """Follow each path in a session of its own: how many events came, and on how many streams was what is `wanted`.

    It ends after so many seconds, or when that has been seen on all of them.
    """
    context = ssl.create_default_context(cafile=str(door.ca))
    connection = door.connect()
    cookies = [door.log_in(connection) for _ in paths]
    # One address may be in a few handshakes at once, and all browsers here have the same.
    handshakes, end = asyncio.Semaphore(4), time.monotonic() + seconds

    async def one(path: str, cookie: str) -> tuple[int, bool]:
        async with handshakes:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        events, found = 0, False
        try:
            async with asyncio.timeout(end - time.monotonic()):
                while not (found and wanted):
                    line = await reader.readline()
                    events += line == b"event: changed\n"
                    found = found or wanted.encode() in line
                    if not line or line.startswith(b"event: ended"):
                        raise SystemExit(f"{path}: the stream has ended")
        except TimeoutError:
            pass
        writer.close()
        return events, found

    found = await asyncio.gather(*(one(path, cookie) for path, cookie in zip(paths, cookies, strict=True)))
    return {"events": sum(events for events, _ in found), "seen": sum(seen for _, seen in found)}


def _followed(count: int) -> list[str]:
    return [f"/hosts/{site.name(n // _AT_HOSTS)}/events" if n % _AT_HOSTS == 0 else "/events" for n in range(count)]


def _busy(running: Running, seconds: float) -> float:
    """Open a window every second, so that there is something to follow; the CPU time that the service took."""
    before, end = cpu_time(running.pid), time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(running.state / "operator.sock"))
            head = f"POST /v1/hosts/{site.name(0)}/window HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
            sock.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            if not sock.recv(65536).startswith(b"HTTP/1.1 200"):
                raise SystemExit("no window was opened")
        time.sleep(1)
    return cpu_time(running.pid) - before


def followers(running: Running, count: int, seconds: float, turns: int) -> tuple[Row, Row]:
    """The CPU time and the memory that so many followers cost."""
    found, rest, most = [], memory(running.pid), 0.0
    for _ in range(turns):
        alone = _busy(running, seconds)
        arguments = [*running.door.arguments(), str(seconds + 60), *_followed(count)]
        # All have logged in before what they cost is measured.
        with process(
            python("bench.browsers", "follow", *arguments), lambda: _connected(running.door, count)
        ) as following:
            found.append((_busy(running, seconds), alone))
            most = max(most, memory(running.pid))
            if following.poll() is not None:
                raise SystemExit("the followers have ended")
    ours, peer = (sum(one) / turns for one in zip(*found, strict=True))
    more = Row(f"memory for {count} followers / without", most - rest, rest, "MiB", (most - rest) / rest, "< 100 MiB")
    name = f"CPU time in {seconds:.0f} s with {count} followers / without"
    return Row(name, ours, peer, "s", (ours - peer) / seconds, "< 0.05"), more


def _connected(door: Door, count: int) -> bool:
    """Whether so many connections to it are established (proc(5), net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(fields[1].endswith(f":{door.port:04X}") and fields[3] == "01" for fields in lines) >= count


def main(
    small: int = SMALL,
    large: int = LARGE,
    rounds: int = PAGES,
    count: int = FOLLOWERS,
    seconds: float = SECONDS,
    turns: int = TURNS,
) -> list[Row]:
    """Measure, print the table, return its rows."""
    with ExitStack() as stack:
        little, big = started(stack, small), started(stack, large)
        first = paired(
            f"first byte of the page of {large} hosts / of {small}", "ms", "<= 3", pages(little, big, rounds)
        )
        rows = [first, *followers(big, count, seconds, turns)]
    print(table(rows))
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["follow", port, ca, token, seconds, *paths]:
            print(json.dumps(asyncio.run(follow(Door(int(port), Path(ca), token), paths, float(seconds)))))
        case ["await", port, ca, token, seconds, wanted, *paths]:
            print(json.dumps(asyncio.run(follow(Door(int(port), Path(ca), token), paths, float(seconds), wanted))))
        case _:
            main()
