"""From a request to the first byte of a host's ISO, against rebuilding that ISO with xorriso from the same files.

Ours is a whole answer of `provision serve` over the operator's socket for a host that was never asked for before:
decision, durable audit entry, boot record, opened credentials, seed and plan. The peer is the time of the xorriso
process alone, without the checks that an import makes of its result.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from bench import site
from bench.common import Row, paired, process, python, table, workspace
from provision import proc
from provision.media import iso
from provision.media.authoring import Ingredients
from provision.media.loaders import copy_loaders, find_loaders

PAIRS = 15
INITRD = 48 * site.MIB


def first_byte(path: Path, host: str) -> tuple[float, bytes]:
    """Seconds from connecting to the first byte of the body, and what had come by then (header and body)."""
    start = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(f"GET /v1/hosts/{host}/iso HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got or got.endswith(b"\r\n\r\n"):
            part = sock.recv(65536)
            if not part:
                raise SystemExit("the server closed the connection")
            got += part
        seconds = time.perf_counter() - start
    if not got.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"unexpected answer: {got[:300]!r}")
    return seconds, got


@contextmanager
def _timed_runs() -> Iterator[list[float]]:
    """The seconds of every command that the ISO's author runs meanwhile, xorriso's last."""
    seconds: list[float] = []
    run = proc.run

    def timed(*args: object, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
        start = time.perf_counter()
        done = run(*args, **kwargs)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - start)
        return done

    with patch.object(proc, "run", timed):
        yield seconds


def rebuild(ingredients: Ingredients, root: Path) -> float:
    """Seconds that xorriso takes to write the ISO again from its files."""
    scratch, target = root / "scratch", root / "again.iso"
    scratch.mkdir()
    with _timed_runs() as seconds:
        iso.build_iso(ingredients, target, scratch)
    subprocess.run(["rm", "-r", scratch, target], check=True)
    return seconds[-1]


def _ingredients(state: Path, root: Path) -> Ingredients:
    """What the imported base's ISO was made of."""
    (base,) = (p for p in (state / "bases").iterdir() if re.fullmatch("[0-9a-f]{64}", p.name))
    found, problems = find_loaders(None)
    assert not problems
    (root / "loaders").mkdir()
    loaders = copy_loaders(found, root / "loaders")
    return Ingredients(base.name, base / "kernel", (base / "initrd0.img",), loaders, 4 * site.MIB)


def _contains_its_seed(path: Path, host: str) -> None:
    """The answer is the real thing: the whole ISO holds this host's name in a seed."""
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as file:
        sock.connect(str(path))
        sock.sendall(f"GET /v1/hosts/{host}/iso HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        body = file.read()
    assert f'"fqdn": "{host}.bench.example"'.encode() in body


def _sizes(state: Path) -> dict[str, int]:
    """Bytes of every file of the state directory."""
    return {p.relative_to(state).as_posix(): p.stat().st_size for p in sorted(state.rglob("*")) if p.is_file()}


def media_bytes(before: dict[str, int], after: dict[str, int]) -> int:
    """How much the state directory grew beside the audit log and the database."""
    grown = {name: size - before.get(name, 0) for name, size in after.items()}
    return sum(more for name, more in grown.items() if not name.startswith(("audit.", "provision.db")))


def main(pairs: int = PAIRS, initrd: int = INITRD) -> list[Row]:
    """Measure, print the table, return its rows."""
    with workspace("provision-bench-") as root:
        state = root / "state"
        site.make_state(state, listen=False)
        service = site.open_service(state)
        site.fill(service, pairs + 1, root, initrd)
        service.close()
        ingredients, sock = _ingredients(state, root), state / "operator.sock"
        serve = python("provision", "--state", state, "serve")
        with process(serve, sock.exists):
            first_byte(sock, site.name(0))
            rebuild(ingredients, root)
            before = _sizes(state)
            both = [
                (1000 * first_byte(sock, site.name(n))[0], 1000 * rebuild(ingredients, root))
                for n in range(1, pairs + 1)
            ]
            kept = media_bytes(before, _sizes(state))
            _contains_its_seed(sock, site.name(1))
        size = next((state / "bases").glob("*/base.iso")).stat().st_size // site.MIB
    rows = [
        paired(f"first byte of a new host's ISO of {size} MiB / xorriso", "ms", "<= 0.02", both),
        Row("disk for each host's ISO / a built ISO", kept / site.MIB, size, "MiB", kept / site.MIB / size, "<= 0"),
    ]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
