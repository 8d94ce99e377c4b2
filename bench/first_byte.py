"""From a request to the first byte of a host's ISO, against rebuilding that ISO with xorriso from the same files.

Ours is `provision serve` over the operator's socket, for a host that was never asked for before: decision, durable
audit entry, opened credentials, seed and plan. The peer is the way a base ISO is authored: EFI image, xorriso, and
reading the result back. The second row of a size has as peer only the xorriso process of that. Our time does not depend
on the size, but on how fast the disk makes a small write durable; nobody waits for xorriso's result to reach the disk.
So the smaller the ISO is and the slower the disk, the nearer the two come.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from bench import site
from bench.common import Row, listens, paired, process, python, table, workspace
from provision import proc
from provision.media import iso
from provision.media.authoring import Ingredients
from provision.media.loaders import copy_loaders, find_loaders

SIZES = ((46 * site.MIB, 31), (1006 * site.MIB, 5))
"""Bytes of the initrd, which make ISOs of about 64 MiB and 1 GiB, and how many pairs are measured."""


def first_byte(path: Path, host: str, medium: str = "iso") -> float:
    """Seconds from connecting to the operator's socket to the first byte of the body of the host's medium."""
    start = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(f"GET /v1/hosts/{host}/{medium} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got or got.endswith(b"\r\n\r\n"):
            part = sock.recv(65536)
            if not part:
                raise SystemExit("the server closed the connection")
            got += part
        seconds = time.perf_counter() - start
    if not got.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"unexpected answer: {got[:300]!r}")
    return seconds


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


def rebuild(ingredients: Ingredients, root: Path) -> tuple[float, float]:
    """Seconds to author the ISO again from its files, and how many of them xorriso took."""
    scratch, target = root / "scratch", root / "again.iso"
    scratch.mkdir()
    with _timed_runs() as seconds:
        start = time.perf_counter()
        iso.build_iso(ingredients, target, scratch)
        whole = time.perf_counter() - start
    shutil.rmtree(scratch)
    target.unlink()
    # What the peer left for the disk to do must not be paid for by the next durable write, which is ours.
    os.sync()
    return whole, seconds[-1]


def ingredients_of(state: Path, root: Path) -> Ingredients:
    """What the imported base's media were made of."""
    (base,) = (p for p in (state / "bases").iterdir() if re.fullmatch("[0-9a-f]{64}", p.name))
    found, problems = find_loaders(None)
    assert not problems
    (root / "loaders").mkdir()
    loaders = copy_loaders(found, root / "loaders")
    return Ingredients(base.name, base / "kernel", (base / "initrd0.img",), loaders, 4 * site.MIB)


def _contains_its_seed(path: Path, host: str) -> None:
    """The answer is the real thing: the whole ISO holds this host's name in a seed."""
    wanted, window = f'"fqdn": "{host}.bench.example"'.encode(), b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(f"GET /v1/hosts/{host}/iso HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        while part := sock.recv(site.MIB):
            window = window[-len(wanted) :] + part
            if wanted in window:
                return
    raise SystemExit(f"the ISO of {host} does not hold its seed")


def _sizes(state: Path) -> dict[str, int]:
    """Bytes of every file of the state directory."""
    return {p.relative_to(state).as_posix(): p.stat().st_size for p in sorted(state.rglob("*")) if p.is_file()}


def media_bytes(before: dict[str, int], after: dict[str, int]) -> int:
    """How much the state directory grew beside the audit log and the database."""
    grown = {name: size - before.get(name, 0) for name, size in after.items()}
    return sum(more for name, more in grown.items() if not name.startswith(("audit.", "provision.db")))


def measure(pairs: int, initrd: int) -> list[Row]:
    """The rows for an ISO whose initrd has so many bytes."""
    with workspace("provision-bench-") as root:
        state = root / "state"
        site.make_state(state, listen=False)
        service = site.open_service(state)
        site.fill(service, pairs + 1, root, initrd)
        service.close()
        ingredients, sock = ingredients_of(state, root), state / "operator.sock"
        with process(python("provision", "--state", state, "serve"), listens(sock)):
            first_byte(sock, site.name(0))
            rebuild(ingredients, root)
            before = _sizes(state)
            found = [(first_byte(sock, site.name(n)), *rebuild(ingredients, root)) for n in range(1, pairs + 1)]
            kept = media_bytes(before, _sizes(state)) / site.MIB
            _contains_its_seed(sock, site.name(1))
        size = next((state / "bases").glob("*/base.iso")).stat().st_size // site.MIB
    whole = [(1000 * ours, 1000 * author) for ours, author, _ in found]
    alone = [(1000 * ours, 1000 * xorriso) for ours, _, xorriso in found]
    return [
        paired(f"first byte of a new host's ISO of {size} MiB / rebuilding it", "ms", "<= 0.02", whole),
        paired(f"the same / xorriso alone, {size} MiB", "ms", "none", alone),
        Row(f"disk for each host / an ISO of {size} MiB", kept, size, "MiB", kept / size, "<= 0"),
    ]


def main(sizes: Sequence[tuple[int, int]] = SIZES) -> list[Row]:
    """Measure, print the table, return its rows."""
    rows = [row for initrd, pairs in sizes for row in measure(pairs, initrd)]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
