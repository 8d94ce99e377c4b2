"""A host's ISO by a link in plain HTTP, against a bare stream to whoever asks, and against the operator's socket.

The link is read from `provision serve` over a wire between two namespaces, as a BMC reads it, by one client that throws
the bytes away. The first peer is a process that streams the same file, with patches, over the same wire (as in
`stream`): what a link costs beside that is what is asked and noted. The other is `provision serve` itself, with the
same ISO on its Unix socket, which costs the kernel less than TCP. Each has a row for each second of the server's
processor, too.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench import site
from bench.common import Row, cpu_time, paired, process, python, table

SIZE, PAIRS = 512 * site.MIB, 7
BARE_PORT = 8081
_SETTING = f'interface = "{site.INTERFACE}"\n'


def take(where: str, path: str) -> tuple[int, float]:
    """Get `path` from HOST:PORT or a Unix socket and throw it away: its bytes, and the seconds to the last one."""
    host, _, port = where.rpartition(":")
    buffer = bytearray(1 << 20)
    with socket.create_connection((host, int(port))) if port.isdigit() else socket.socket(socket.AF_UNIX) as sock:
        if not port.isdigit():
            sock.connect(where)
        start = time.perf_counter()
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {site.SERVER}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        head, _, rest = head.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not head.startswith(b"HTTP/1.1 200") or found is None:
            raise SystemExit(f"unexpected answer: {head[:200]!r}")
        left = int(found[1]) - len(rest)
        while left:
            got = sock.recv_into(buffer)
            if not got:
                raise SystemExit("the connection broke")
            left -= got
        return int(found[1]), time.perf_counter() - start


class Ground:
    """A service with one host and its link, and the bare streams beside it."""

    def __init__(self, stack: ExitStack, size: int) -> None:
        state = site.make_site(stack, 1, size)
        settings = state / "provision.toml"
        settings.write_text(settings.read_text().replace(_SETTING, f"{_SETTING}links = true\n"))
        self._server, self._client = stack.enter_context(site.lan(1))
        self.socket = state / "operator.sock"
        serve = self._server.argv(python("provision", "--state", state, "serve"))
        self.ours = stack.enter_context(process(serve, lambda: self._listens(80)))
        order = ["--json", "link", site.name(0), "--medium", "iso"]
        made = json.loads(self._server.run(python("provision", "--state", state, *order)))
        self.link = "/b/" + made["urls"][0].rpartition("/")[2]
        (iso,) = state.glob("bases/*/base.iso")
        bare = self._server.argv(python("bench.links", "bare", iso, str(BARE_PORT)))
        self.bare = stack.enter_context(process(bare, lambda: self._listens(BARE_PORT)))

    def _listens(self, port: int) -> bool:
        return bool(self._server.run(["ss", "-Hltn", f"sport = :{port}"]))

    def costs(self, where: str, path: str, pid: int) -> tuple[float, float]:
        """GB/s, and GB for each second of the server's processor."""
        before = cpu_time(pid)
        size, seconds = json.loads(self._client.run(python("bench.links", "take", where, path)))
        return size / seconds / 1e9, size / (cpu_time(pid) - before) / 1e9


def serve(iso: Path, port: int) -> None:
    """The bare peer: the file, with patches as a host's medium has them."""
    import uvloop
    from starlette.types import Receive, Scope, Send

    from provision.media.plan import Patch, Plan
    from provision.net.sockets import bind_tcp
    from provision.web.limits import Limits
    from provision.web.servers import Servers
    from provision.web.stream import PlanResponse

    size = iso.stat().st_size
    patches = (Patch(40_000, b"#" * 4096), Patch(size // 2, b"seed" * 4096), Patch(size - 90_000, b"#" * 4096))
    plan = Plan(iso, "0" * 64, size, patches, "r")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlanResponse(plan, "application/octet-stream")(scope, receive, send)

    async def run() -> None:
        async with Servers() as servers:
            await servers.add(app, bind_tcp(site.INTERFACE, str(site.SERVER), port), Limits(per_peer=128))
            await servers.serve()

    uvloop.run(run())


def main(size: int = SIZE, pairs: int = PAIRS) -> list[Row]:
    """Measure, print the table, return its rows."""
    with ExitStack() as stack:
        ground = Ground(stack, size)
        places = (
            (f"{site.SERVER}:80", ground.link, ground.ours.pid),
            (str(ground.socket), f"/v1/hosts/{site.name(0)}/iso", ground.ours.pid),
            (f"{site.SERVER}:{BARE_PORT}", "/", ground.bare.pid),
        )
        for place in places:
            ground.costs(*place)
        found = [[ground.costs(*place) for place in places] for _ in range(pairs)]
    label = f"{size // site.MIB} MiB by a link"
    rows = [
        paired(f"{label} / a bare stream", "GB/s", ">= 0.9", [(one[0][0], one[2][0]) for one in found]),
        paired("the same, of one core", "GB/s", "none", [(one[0][1], one[2][1]) for one in found]),
        paired(f"{label} / from the operator's socket", "GB/s", "none", [(one[0][0], one[1][0]) for one in found]),
        paired("the same, of one core", "GB/s", "none", [(one[0][1], one[1][1]) for one in found]),
    ]
    print(table(rows))
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["take", where, path]:
            print(json.dumps(take(where, path)))
        case ["bare", iso, port]:
            serve(Path(iso), int(port))
        case _:
            main()
