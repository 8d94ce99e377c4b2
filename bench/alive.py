"""What hosts cost that are up: the message that each sends every ten seconds, and its question what it should run.

Ours is `provision serve` with 10,000 hosts, all of which have said that they are up; those that are measured have said
what is in the slots of their disks, too. The peer is plain uvicorn (uvloop, httptools, no access log) with a route of
FastAPI that reads the same JSON. Both are told by the same client, from each host's own address, over a new connection
each time, as hosts do it. Measured is CPU time of the server's process, divided by the answers that it gave meanwhile.
A host whose image is to be updated is told so in each answer, under its own key, until it has done it; then it asks
what to run, and the answer is signed by the site.

The second row is what all 10,000 hosts take of one core. The last is what the process has more at the end than before
the first message.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import site
from bench.common import Row, cpu_time, memory, paired, process, python, table, workspace
from provision import boot_paths

HOSTS, ROUNDS, SHARE, EVERY = 10_000, 5, 200, 10
PORT, PEER_PORT = 80, 8081
_BOOT, _RUN, _OTHER = "bench", "r" * 32, "f" * 64


def alive(number: int, key: bytes, sequence: int, slots: str) -> bytes:
    """A message of host `number` (docs/media-format.md, "Alive")."""
    said = {"host": site.name(number), "boot": _BOOT, "run": _RUN, "sequence": sequence, "state": "up"}
    signed = f"alive|{said['host']}|{_BOOT}|{_RUN}|{sequence}|up" + (f"||{slots}" if slots else "")
    return json.dumps(said | {"identity": "", "slots": slots, "tag": _tag(key, signed)}).encode()


def question(number: int, key: bytes, sequence: int, _: str) -> bytes:
    """What the host asks that should run another image."""
    what = f"describe {sequence:032x}"
    said = {"host": site.name(number), "boot": _BOOT, "run": _RUN, "sequence": sequence, "what": what}
    signed = f"update|{said['host']}|{_BOOT}|{_RUN}|{sequence}|{what}"
    return json.dumps(said | {"tag": _tag(key, signed)}).encode()


def _tag(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), hashlib.sha256).hex()


_BODIES: dict[str, Callable[[int, bytes, int, str], bytes]] = {boot_paths.ALIVE: alive, boot_paths.UPDATE: question}


def say(keys: Sequence[str], port: int, path: str, first: int, stop: int, sequence: int, slots: str) -> int:
    """Let hosts say it, one after the other: how large the last answer is. Raises SystemExit for a refusal."""
    size = 0
    for number in range(first, stop):
        body = _BODIES[path](number, bytes.fromhex(keys[number]), sequence, slots)
        head = f"POST {path} HTTP/1.1\r\nHost: {site.SERVER}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        with socket.create_connection((str(site.SERVER), port), 10, (str(site.address(number)), 0)) as sock:
            sock.sendall(head.encode() + body)
            got = b"".join(iter(lambda: sock.recv(65536), b""))
        if got[:12] not in (b"HTTP/1.1 200", b"HTTP/1.1 204"):
            raise SystemExit(f"{site.name(number)}: unexpected answer: {got[:300]!r}")
        size = len(got.partition(b"\r\n\r\n")[2])
    return size


def bare(port: int, size: int) -> None:
    """The peer: it reads JSON, and answers with so many bytes."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import Response

    app, content = FastAPI(openapi_url=None), b"#" * size

    @app.post(boot_paths.ALIVE)
    @app.post(boot_paths.UPDATE)
    async def route(said: dict[str, Any]) -> Any:
        return Response(content) if content else Response(status_code=204)

    uvicorn.run(app, host="0.0.0.0", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error")


class Ground:
    """The service in a namespace of its own, and its hosts in another."""

    def __init__(self, stack: ExitStack, hosts: int) -> None:
        root = stack.enter_context(workspace("provision-bench-"))
        state, keys, self._sequence = root / "state", root / "keys.json", 0
        site.make_state(state, listen=True)
        service = site.open_service(state)
        site.fill(service, hosts, root, 4096)
        derive = service.core.store.keys.alive
        keys.write_text(json.dumps([derive(site.name(n), _BOOT).reveal().hex() for n in range(hosts)]))
        self.wanted = service.core.bases()["bench"]
        service.close()
        self._server, others = stack.enter_context(site.lan(hosts))
        serve = self._server.argv(python("provision", "--state", state, "serve"))
        self.ours = stack.enter_context(process(serve, lambda: self._listens(PORT)))
        argv = others.argv(python("bench.alive", "hosts", keys))
        client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._client = stack.enter_context(client)

    def _listens(self, port: int) -> bool:
        return bool(self._server.run(["ss", "-Hltn", f"sport = :{port}"]))

    def say(self, numbers: range, slots: str, path: str = boot_paths.ALIVE, port: int = PORT) -> int:
        """Let these hosts say it: how large an answer was."""
        self._sequence += 1
        assert self._client.stdin is not None and self._client.stdout is not None
        said = port, path, numbers.start, numbers.stop, self._sequence, slots
        self._client.stdin.write(json.dumps(said) + "\n")
        self._client.stdin.flush()
        answer = self._client.stdout.readline()
        if not answer:
            raise SystemExit("the hosts' side has given up")
        return int(answer)

    def compared(self, rounds: int, share: int, slots: str, path: str = boot_paths.ALIVE) -> list[tuple[float, float]]:
        """Microseconds of CPU for one, ours and the peer's, in turns."""
        with ExitStack() as stack:
            self.say(range(share), slots)
            size = self.say(range(share), slots, path)
            argv = self._server.argv(python("bench.alive", "bare", str(PEER_PORT), str(size)))
            peer = stack.enter_context(process(argv, lambda: self._listens(PEER_PORT)))
            self.say(range(share), slots, path, PEER_PORT)
            pairs = []
            for n in range(rounds):
                numbers, both = range(n * share, (n + 1) * share), []
                # On a busy machine they were heard too long ago to be given anything.
                self.say(numbers, slots)
                for port, pid in ((PORT, self.ours.pid), (PEER_PORT, peer.pid)):
                    before = cpu_time(pid)
                    self.say(numbers, slots, path, port)
                    both.append((cpu_time(pid) - before) / share * 1e6)
                pairs.append((both[0], both[1]))
        return pairs


def main(hosts: int = HOSTS, rounds: int = ROUNDS, share: int = SHARE) -> list[Row]:
    """Measure, print the table, return its rows."""
    with ExitStack() as stack:
        ground = Ground(stack, hosts)
        before = memory(ground.ours.pid)
        idle, behind = (f"a a {version} - idle" for version in (ground.wanted, _OTHER))
        ground.say(range(hosts), "")
        # Once, as news: what hosts say of their slots is stored when it changes.
        ground.say(range(rounds * share), idle)
        up = ground.compared(rounds, share, idle)
        ground.say(range(rounds * share), behind)
        ordered = ground.compared(rounds, share, behind)
        asked = ground.compared(rounds, share, behind, boot_paths.UPDATE)
        grown = memory(ground.ours.pid) - before
    all_of_them = [(ours * hosts / EVERY / 1e6, 1.0) for ours, _ in up]
    rows = [
        paired("a host says that it is up", "us", "none", up),
        paired(f"{hosts:,} hosts do, every {EVERY} s / one core", "s", "<= 0.5", all_of_them),
        paired("a host that is to be updated says it", "us", "none", ordered),
        paired("it asks what to run", "us", "none", asked),
        Row(f"memory that {hosts:,} hosts add", grown, grown, "MiB", 1.0, "< 100 MiB"),
    ]
    print(table(rows))
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", port, size]:
            bare(int(port), int(size))
        case ["hosts", place]:
            known = json.loads(Path(place).read_text())
            for line in sys.stdin:
                print(say(known, *json.loads(line)), flush=True)
        case _:
            main()
