"""Per-host boot configurations per second, against a bare FastAPI route with answers of the same size.

Ours is `provision serve` as it is: a listener bound to device and address, real neighbour entries, the claimed MAC
compared with the neighbour's, the decision, the audit log and the rendered configuration. The peer is plain uvicorn
(uvloop, httptools, no access log) with one asynchronous route of FastAPI that returns ready bytes. Both are asked by
the same client from every host's own address, one kept connection for each host and one request at a time on it.

CPU time is that of the server's process, user and system, divided by the configurations that it gave meanwhile, new
connections included; other work on the machine moves it less than it moves configurations per second.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench import site
from bench.common import Row, cpu_time, listens, paired, process, python, table
from provision import boot_paths
from provision.boot_paths import PxelinuxConfig

HOSTS, PAIRS, SECONDS = 200, 7, 2.0
FRESH = 1500
PORT, PEER_PORT = 80, 8081


class Asker:
    """One host's connection: sends its request again as soon as the answer is whole."""

    def __init__(self, port: int, number: int, selector: selectors.BaseSelector) -> None:
        path = boot_paths.http(PxelinuxConfig(site.mac(number)))
        self._request = f"GET {path} HTTP/1.1\r\nHost: {site.SERVER}\r\n\r\n".encode()
        self._name = f"provision: {site.name(number)} boots".encode()
        self._sock = socket.create_connection((str(site.SERVER), port), 10, (str(site.address(number)), 0))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got, self._length = b"", 0
        self.answers = 0
        self.named = True
        self.body = b""
        selector.register(self._sock, selectors.EVENT_READ, self)

    def ask(self) -> None:
        self._got, self._length = b"", 0
        self._sock.sendall(self._request)

    def take(self) -> bool:
        """Take what has come; whether the answer is whole."""
        part = self._sock.recv(65536)
        if not part:
            raise SystemExit("the server closed a connection")
        self._got += part
        if not self._length and b"\r\n\r\n" in self._got:
            head, _, _ = self._got.partition(b"\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or found is None:
                raise SystemExit(f"unexpected answer: {self._got[:200]!r}")
            self._length = len(head) + 4 + int(found[1])
        if not self._length or len(self._got) < self._length:
            return False
        if not self.answers:
            self.body = self._got.partition(b"\r\n\r\n")[2]
            self.named = self._name in self.body
        self.answers += 1
        return True

    def close(self) -> None:
        self._sock.close()


def ask_for(port: int, numbers: Sequence[int], seconds: float) -> dict[str, float]:
    """Ask for `seconds` (0: each host once): how many answers, at what rate, whose, and of what size."""
    with selectors.DefaultSelector() as selector:
        askers = [Asker(port, n, selector) for n in numbers]
        start = time.perf_counter()
        for asker in askers:
            asker.ask()
        waiting = len(askers)
        while waiting:
            for key, _ in selector.select(10) or _silent():
                asker = key.data
                if asker.take():
                    if time.perf_counter() - start < seconds:
                        asker.ask()
                    else:
                        waiting -= 1
        took = time.perf_counter() - start
        total = sum(asker.answers for asker in askers)
        named = all(asker.named for asker in askers)
        for asker in askers:
            asker.close()
    return {"answers": total, "rate": total / took, "named": named, "bytes": len(askers[0].body)}


def _silent() -> list[tuple[selectors.SelectorKey, int]]:
    raise SystemExit("no answer for 10 s")


def bare(port: int, size: int) -> None:
    """The peer: one route, ready bytes of `size`."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import Response

    app, body = FastAPI(openapi_url=None), b"#" * size

    @app.get(boot_paths.route(PxelinuxConfig))
    async def route(mac: str) -> Response:
        return Response(body, media_type="text/plain", headers={"cache-control": "no-store"})

    uvicorn.run(app, host="0.0.0.0", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error")


class Ground:
    """Both servers, running in a namespace of their own, and the hosts in another."""

    def __init__(self, stack: ExitStack, hosts: int) -> None:
        state = site.make_site(stack, hosts)
        self._server, self._hosts = stack.enter_context(site.lan(hosts))
        serve = self._server.argv(python("provision", "--state", state, "serve"))
        self.ours = stack.enter_context(process(serve, listens(state / "operator.sock")))
        self._wait(PORT)
        size = int(self.ask(PORT, range(1), 0)["bytes"])
        peer = self._server.argv(python("bench.configs", "bare", str(PEER_PORT), str(size)))
        self.peer = stack.enter_context(process(peer, lambda: self._listens(PEER_PORT)))

    def _listens(self, port: int) -> bool:
        return bool(self._server.run(["ss", "-Hltn", f"sport = :{port}"]))

    def _wait(self, port: int) -> None:
        end = time.monotonic() + 20
        while not self._listens(port):
            if self.ours.poll() is not None or time.monotonic() > end:
                raise SystemExit("the service does not listen")
            time.sleep(0.02)

    def ask(self, port: int, numbers: range, seconds: float) -> dict[str, float]:
        """`ask_for`, in a process of its own in the hosts' namespace."""
        arguments = [str(port), str(numbers.start), str(numbers.stop), str(seconds)]
        answer: dict[str, float] = json.loads(self._hosts.run(python("bench.configs", "ask", *arguments)))
        if port == PORT and not answer["named"]:
            raise SystemExit("a host got a configuration that is not its own")
        return answer

    def pair(self, numbers: range, seconds: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Ask both, one after the other: ours and the peer's answers a second, and microseconds of CPU for each."""
        ours = self._costs(PORT, self.ours.pid, numbers, seconds)
        peer = self._costs(PEER_PORT, self.peer.pid, numbers, seconds)
        return (ours[0], peer[0]), (ours[1], peer[1])

    def _costs(self, port: int, pid: int, numbers: range, seconds: float) -> tuple[float, float]:
        before = cpu_time(pid)
        answer = self.ask(port, numbers, seconds)
        return answer["rate"], (cpu_time(pid) - before) / answer["answers"] * 1e6


def main(hosts: int = HOSTS, pairs: int = PAIRS, seconds: float = SECONDS, fresh: int = FRESH) -> list[Row]:
    """Measure, print the table, return its rows."""
    with ExitStack() as stack:
        ground = Ground(stack, hosts + fresh)
        ground.ask(PORT, range(hosts), 0), ground.ask(PEER_PORT, range(hosts), 0)
        kept = [ground.pair(range(hosts), seconds) for _ in range(pairs)]
        step = fresh // 5
        new = [ground.pair(range(hosts + n * step, hosts + (n + 1) * step), 0) for n in range(5)]
    rows = [
        paired(f"configurations for {hosts} hosts", "1/s", ">= 0.7", [rates for rates, _ in kept]),
        paired("the same, each host's first", "1/s", ">= 0.45", [rates for rates, _ in new]),
        paired(f"CPU time of a configuration for {hosts} hosts", "us", "none", [times for _, times in kept]),
        paired("the same, each host's first", "us", "none", [times for _, times in new]),
    ]
    print(table(rows))
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", port, size]:
            bare(int(port), int(size))
        case ["ask", port, first, stop, seconds]:
            print(json.dumps(ask_for(int(port), range(int(first), int(stop)), float(seconds))))
        case _:
            main()
