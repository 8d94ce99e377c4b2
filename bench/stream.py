"""Streaming a per-host medium, against nginx serving a static file of the same size; one worker each, on loopback.

The clients throw the bytes away, but have the kernel copy them. Where a server's speed is less than its bytes for each
second of its processor, it waits for the clients: then both are as fast as these, and only the second rows tell them
apart.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import socket
import sys
import time
from pathlib import Path

from bench.common import (
    Row,
    accepts,
    forget_peak,
    free_port,
    memory,
    paired,
    process,
    processor,
    python,
    table,
    workspace,
)

MIB = 1024 * 1024
SMALL, LARGE = 64 * MIB, 1024 * MIB
PAIRS, SECONDS = 9, 0.8
MEMORY = "< 150 MiB"

_NGINX = """\
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; default_type application/octet-stream;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
  uwsgi_temp_path {root}; scgi_temp_path {root};
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def serve(root: Path, port: int) -> None:
    """Our side, in a process of its own: /NAME is the file of that name under a plan of three patches."""
    import uvloop
    from starlette.types import Receive, Scope, Send

    from provision.media.plan import Patch, Plan
    from provision.net.sockets import bind_tcp
    from provision.web.limits import Limits
    from provision.web.servers import Servers
    from provision.web.stream import PlanResponse

    plans = {}
    for name in ("small", "large"):
        size = (root / name).stat().st_size
        patches = (Patch(40_000, b"#" * 4096), Patch(size // 2, b"seed" * 4096), Patch(size - 90_000, b"#" * 4096))
        plans[f"/{name}"] = Plan(root / name, "0" * 64, size, patches, "r")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlanResponse(plans[scope["path"]], "application/octet-stream")(scope, receive, send)

    async def run() -> None:
        async with Servers() as servers:
            await servers.add(app, bind_tcp("lo", "127.0.0.1", port), Limits(per_peer=128))
            await servers.serve()

    uvloop.run(run())


def fetch(port: int, path: str, until: float) -> int:
    """Get `path` over and over on one connection until the clock says `until`; returns the bytes thrown away."""
    buffer, total = bytearray(256 * 1024), 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while True:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(65536)
            head, _, rest = head.partition(b"\r\n\r\n")
            found = re.search(rb"(?i)content-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or found is None:
                raise SystemExit(f"unexpected answer: {head[:60]!r}")
            left = int(found[1]) - len(rest)
            while left:
                got = sock.recv_into(buffer, min(left, len(buffer)))
                if not got:
                    raise SystemExit("the connection broke")
                left, total = left - got, total + got
                if time.perf_counter() > until:
                    return total


def clients(port: int, path: str, count: int, seconds: float) -> tuple[float, float]:
    """GB/s of `count` connections at once, over so many seconds, and how many it were."""
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        total = sum(pool.map(lambda _: fetch(port, path, start + seconds), range(count)))
    took = time.perf_counter() - start
    return total / took / 1e9, took


def measured(port: int, pid: int, path: str, count: int, seconds: float) -> tuple[float, float]:
    """GB/s of so many clients, and GB for each second of the server's processor."""
    used = processor(pid)
    speed, took = clients(port, path, count, seconds)
    return speed, speed * took / max(processor(pid) - used, 0.001)


def _files(root: Path, small: int, large: int) -> None:
    block = os.urandom(MIB)
    for name, size in (("small", small), ("large", large)):
        with (root / name).open("wb") as file:
            for _ in range(size // MIB):
                file.write(block)


def _same(root: Path, port: int) -> None:
    """The comparison is of equal work: our bytes are the plan's."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/small") as answer:
        ours = answer.read()
    base = bytearray((root / "small").read_bytes())
    size = len(base)
    base[40_000:44_096], base[size // 2 : size // 2 + 16384] = b"#" * 4096, b"seed" * 4096
    base[size - 90_000 : size - 85_904] = b"#" * 4096
    assert hashlib.sha256(ours).digest() == hashlib.sha256(base).digest()


def main(small: int = SMALL, large: int = LARGE, pairs: int = PAIRS, seconds: float = SECONDS) -> list[Row]:
    """Measure, print the table, return its rows."""
    speeds, memories = [], []
    with workspace("provision-bench-") as root:
        _files(root, small, large)
        port, peer = free_port(), free_port()
        (root / "nginx.conf").write_text(_NGINX.format(root=root, port=peer))
        nginx = ["nginx", "-p", str(root), "-c", str(root / "nginx.conf")]
        with (
            process(python("bench.stream", root, str(port)), accepts(port)) as ours,
            process(nginx, accepts(peer)) as theirs,
        ):
            rest = memory(ours.pid)
            _same(root, port)
            for name, size in (("small", small), ("large", large)):
                path = f"/{name}"
                for count in (1, 32):
                    label = f"{size // MIB} MiB, {count} client{'s' if count > 1 else ''}"
                    clients(port, path, 1, seconds), clients(peer, path, 1, seconds)
                    forget_peak(ours.pid)
                    found = [
                        (
                            measured(port, ours.pid, path, count, seconds),
                            measured(peer, theirs.pid, path, count, seconds),
                        )
                        for _ in range(pairs)
                    ]
                    goal = ">= 1.3" if count > 1 else ">= 1.0"
                    speeds.append(paired(f"stream {label}", "GB/s", goal, [(a[0], b[0]) for a, b in found]))
                    speeds.append(paired("the same, of one core", "GB/s", "none", [(a[1], b[1]) for a, b in found]))
                    peak = memory(ours.pid, "VmHWM")
                    memories.append(Row(f"memory, highest / at rest: {label}", peak, rest, "MiB", peak / rest, MEMORY))
    print(table(speeds + memories))
    return speeds + memories


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
