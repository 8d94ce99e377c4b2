"""OEM disks: the first byte of one, in each format, against building it; and a batch that shares one base.

The peer of the first byte is the way a base disk is authored: mke2fs and debugfs, mtools, and a table. The batch is
1,000 patches (`provision disk --shared-base`), in CPU time of the service without HTTP; the peer is what has to be done
for each host whatever its form is: the decision, its entry in the audit log, and the sealed and rendered seed. What is
beyond that is to take no more than a millisecond.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import site
from bench.common import Row, listens, paired, process, python, table, workspace
from bench.first_byte import first_byte, ingredients_of
from provision.boot import DOWNLOADS, Medium
from provision.media.authoring import Ingredients
from provision.media.disk import build_disk
from provision.service.service import Service

INITRD, PAIRS = 46 * site.MIB, 15
HOSTS, ROUNDS = 1_000, 5
_KINDS = tuple(name for name, kind in DOWNLOADS.items() if kind.medium is Medium.DISK)


def rebuild(ingredients: Ingredients, root: Path) -> float:
    """Seconds to author the disk again from its files."""
    scratch, target = root / "scratch", root / "again.disk"
    scratch.mkdir()
    start = time.perf_counter()
    build_disk(ingredients, target, scratch)
    whole = time.perf_counter() - start
    shutil.rmtree(scratch)
    target.unlink()
    # What the peer left for the disk to do must not be paid for by the next durable write, which is ours.
    os.sync()
    return whole


def first_bytes(pairs: int, initrd: int) -> list[Row]:
    """A row for each format."""
    with workspace("provision-bench-") as root:
        state = root / "state"
        site.make_state(state, listen=False)
        service = site.open_service(state)
        site.fill(service, pairs * len(_KINDS) + 1, root, initrd)
        service.close()
        ingredients, sock = ingredients_of(state, root), state / "operator.sock"
        with process(python("provision", "--state", state, "serve"), listens(sock)):
            first_byte(sock, site.name(0), "disk")
            rebuild(ingredients, root)
            found = {
                kind: [
                    (1000 * first_byte(sock, site.name(1 + at * pairs + n), kind), 1000 * rebuild(ingredients, root))
                    for n in range(pairs)
                ]
                for at, kind in enumerate(_KINDS)
            }
    return [
        paired(f"first byte of a new host's {kind} / building the disk", "ms", "<= 0.02", found[kind])
        for kind in _KINDS
    ]


def _cpu(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _patches(service: Service, first: int, hosts: int) -> None:
    for number in range(first, first + hosts):
        service.media.disk_patch(site.name(number), site.OPERATOR)


def _plans(service: Service, first: int, hosts: int) -> None:
    for number in range(first, first + hosts):
        service.media.plan(site.name(number), Medium.DISK, site.OPERATOR)


def batch(hosts: int, rounds: int) -> Row:
    """What a host of a batch takes beyond its seed, in ms of CPU."""
    with workspace("provision-bench-") as root:
        state = root / "state"
        site.make_state(state, listen=False)
        service = site.open_service(state)
        try:
            site.fill(service, 2 * hosts * rounds, root, 4096)
            pairs = []
            for n in range(rounds):
                patches = _cpu(partial(_patches, service, 2 * n * hosts, hosts))
                plans = _cpu(partial(_plans, service, (2 * n + 1) * hosts, hosts))
                pairs.append((1000 * max(0.0, patches - plans) / hosts, 1.0))
        finally:
            service.close()
    return paired(f"a host of a batch of {hosts:,} beyond its seed / 1 ms", "ms", "<= 1", pairs)


def main(pairs: int = PAIRS, initrd: int = INITRD, hosts: int = HOSTS, rounds: int = ROUNDS) -> list[Row]:
    """Measure, print the table, return its rows."""
    rows = [*first_bytes(pairs, initrd), batch(hosts, rounds)]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
