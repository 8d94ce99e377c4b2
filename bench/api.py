"""Reads of one host by the API, against a bare FastAPI route of the same size.

Both answer on a Unix socket, over eight connections at once. Ours is `provision serve` as it is: who asks, which hosts
they see, the model of the answer. The peer is uvicorn (uvloop, httptools, no access log) with one asynchronous route
that returns a text of that size.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench import site
from bench.browsers import Running, started
from bench.common import Row, cpu_time, paired, process, python, table

HOSTS, READERS, PAIRS, SECONDS = 100, 8, 7, 2.0


def reads(path: Path, request: bytes, connections: int, seconds: float) -> tuple[int, float, int]:
    """Ask over so many connections of a Unix socket: answers, seconds, and the bytes of one answer's body."""
    answers, size, start = 0, 0, time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            selector.register(sock, selectors.EVENT_READ, bytearray())
            sock.sendall(request)
        while (took := time.perf_counter() - start) < seconds:
            for key, _ in selector.select(10):
                reader, got = key.fileobj, key.data
                assert isinstance(reader, socket.socket)
                got += reader.recv(65536)
                head, end, body = bytes(got).partition(b"\r\n\r\n")
                found = re.search(rb"(?i)content-length: (\d+)", head)
                if end and (found is None or not head.startswith(b"HTTP/1.1 200")):
                    raise SystemExit(f"unexpected answer: {head[:200]!r}")
                if end and found is not None and len(body) == int(found[1]):
                    answers, size = answers + 1, len(body)
                    got.clear()
                    reader.sendall(request)
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return answers, took, size


def bare(path: Path, size: int) -> None:
    """The peer: one route, an answer of `size` bytes."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)

    @app.get("/v1/hosts/{name}")
    async def route(name: str) -> str:
        return "#" * (size - 2)

    uvicorn.run(app, uds=str(path), loop="uvloop", http="httptools", access_log=False, log_level="error")


def hears(path: Path) -> bool:
    """Whether connections are taken; a socket's file is there a little earlier."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def compared(running: Running, pairs: int, seconds: float) -> list[Row]:
    """Answers a second, and microseconds of CPU for each."""
    request = f"GET /v1/hosts/{site.name(0)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    ours, theirs = running.state / "operator.sock", running.state.parent / "bare.sock"
    size = reads(ours, request, 1, 0.2)[2]
    rates, costs = [], []
    with process(python("bench.api", "bare", theirs, str(size)), lambda: hears(theirs)) as peer:
        reads(theirs, request, 1, 0.2)
        for _ in range(pairs):
            both = []
            for path, pid in ((ours, running.pid), (theirs, peer.pid)):
                before = cpu_time(pid)
                answers, took, _ = reads(path, request, READERS, seconds)
                both.append((answers / took, (cpu_time(pid) - before) / answers * 1e6))
            rates.append((both[0][0], both[1][0]))
            costs.append((both[0][1], both[1][1]))
    name = f"reads of a host by the API, {size} bytes"
    return [paired(name, "1/s", ">= 0.4", rates), paired("CPU time of one", "us", "none", costs)]


def main(hosts: int = HOSTS, pairs: int = PAIRS, seconds: float = SECONDS) -> list[Row]:
    """Measure, print the table, return its rows."""
    with ExitStack() as stack:
        rows = compared(started(stack, hosts), pairs, seconds)
    print(table(rows))
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", socket_path, size]:
            bare(Path(socket_path), int(size))
        case _:
            main()
