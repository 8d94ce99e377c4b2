"""Streaming a per-host medium over TLS, against nginx serving a static file of the same size.

Both have the same certificate (ECDSA P-256), TLS 1.3 and AES-256-GCM, one process each on the same core; curl asks from
the other ones, and throws the bytes away. What curl cannot take any faster makes both look alike, so there is a second
row: bytes for each second of the server's processor.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.common import Row, accepts, free_port, paired, process, processor, python, table, workspace

MIB = 1024 * 1024
SIZE, PAIRS, CLIENTS = 1024 * MIB, 5, (1, 32)
GOAL = ">= 0.8"

_NGINX = """\
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
  uwsgi_temp_path {root}; scgi_temp_path {root};
  ssl_certificate {root}/tls/server.pem; ssl_certificate_key {root}/tls/server.key; ssl_protocols TLSv1.3;
  server {{ listen 127.0.0.1:{port} ssl; root {root}; }}
}}
"""


def serve(root: Path, port: int) -> None:
    """Our side, in a process of its own: the file `medium` under a plan of three patches."""
    import uvloop
    from starlette.types import Receive, Scope, Send

    from provision import clock
    from provision.media.plan import Patch, Plan
    from provision.net.sockets import bind_tcp
    from provision.tls.kept import Certificates
    from provision.web.limits import Limits
    from provision.web.servers import Servers
    from provision.web.stream import PlanResponse

    size = (root / "medium").stat().st_size
    patches = (Patch(40_000, b"#" * 4096), Patch(size // 2, b"seed" * 4096), Patch(size - 90_000, b"#" * 4096))
    plan = Plan(root / "medium", "0" * 64, size, patches, "r")
    certificates = Certificates([(root / "tls" / "server.pem", root / "tls" / "server.key")], clock.now)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlanResponse(plan, "application/octet-stream")(scope, receive, send)

    async def run() -> None:
        async with Servers() as servers:
            limits = Limits(per_peer=128, authenticated=True)
            await servers.add(app, bind_tcp("lo", "127.0.0.1", port), limits, tls=lambda: certificates.context)
            await servers.serve()

    uvloop.run(run())


def fetch(root: Path, port: int, count: int, size: int) -> None:
    """`size` bytes by `count` clients at once, each its share from the beginning of the medium."""
    one = [f"https://127.0.0.1:{port}/medium", "--output", "/dev/null"]
    parallel = ["--parallel", "--parallel-immediate", "--parallel-max", str(count)] if count > 1 else []
    limits = ["--range", f"0-{size // count - 1}", "--cacert", str(root / "tls" / "ca.pem"), "--http1.1"]
    subprocess.run(["curl", "--silent", "--fail", *parallel, *limits, *one * count], check=True, timeout=600)


def measured(root: Path, port: int, pid: int, count: int, size: int) -> tuple[float, float]:
    """GB/s, and GB for each second of the server's processor."""
    start, used = time.perf_counter(), processor(pid)
    fetch(root, port, count, size)
    seconds, used = time.perf_counter() - start, processor(pid) - used
    return size / seconds / 1e9, size / max(used, 0.01) / 1e9


def _prepare(root: Path, size: int) -> None:
    from ipaddress import IPv4Address

    from provision import clock
    from provision.tls import files
    from provision.tls.authority import Names

    files.create(root, Names(addresses=(IPv4Address("127.0.0.1"),)), clock.now())
    block = os.urandom(MIB)
    with (root / "medium").open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)


def _on_one_core(argv: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *argv]


def main(size: int = SIZE, pairs: int = PAIRS) -> list[Row]:
    """Measure, print the table, return its rows."""
    rows = []
    with workspace("provision-bench-") as root:
        _prepare(root, size)
        port, peer = free_port(), free_port()
        (root / "nginx.conf").write_text(_NGINX.format(root=root, port=peer))
        nginx = _on_one_core(["nginx", "-p", str(root), "-c", str(root / "nginx.conf")])
        with (
            process(_on_one_core(python("bench.tls", root, str(port))), accepts(port)) as ours,
            process(nginx, accepts(peer)) as theirs,
        ):
            for count in CLIENTS:
                label = f"{size // MIB} MiB, {count} client{'s' if count > 1 else ''}"
                measured(root, port, ours.pid, count, size), measured(root, peer, theirs.pid, count, size)
                found = [
                    (measured(root, port, ours.pid, count, size), measured(root, peer, theirs.pid, count, size))
                    for _ in range(pairs)
                ]
                rows.append(paired(f"TLS {label}", "GB/s", GOAL, [(a[0], b[0]) for a, b in found]))
                rows.append(paired("the same, of one core", "GB/s", "none", [(a[1], b[1]) for a, b in found]))
    print(table(rows))
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
