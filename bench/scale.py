"""Sites of 1,000 and of 10,000 hosts: apply, DHCP rendering and explanations must grow no worse than linearly.

Every measurement is a process of its own, which works on a fresh state directory. Each large site stands between five
small ones and five more, which take as long together, so that other work on the machine meets both alike. In the table
"ours" is the large site, "peer" the mean of its ten small ones, both in seconds of CPU time. Python's collector looks
through everything once before each step, outside its time: a step of the large site is long enough to meet what the
step before it left, one of the small site is not.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import site
from bench.common import Row, memory, paired, process, python, table, workspace
from provision.service.service import Service

SMALL, LARGE = 1_000, 10_000
ROUNDS = 5
EACH_SIDE = 5
LIMIT = "<= 11"
MEMORY = "< 500 MiB"
_STEPS = {"apply": "apply", "again": "apply again, one host changed", "dhcp": "DHCP rendering", "explain": "explain"}


def _seconds(step: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    step()
    return time.process_time() - start


def measure(root: Path, hosts: int) -> dict[str, Any]:
    """Seconds of every step for a site of so many hosts, and this process's highest resident memory in MiB.

    Leaves `dnsmasq.conf` in `root`.
    """
    site.make_state(root / "state", listen=True)
    service = site.open_service(root / "state")
    try:
        site.import_base(service, root, 4096)
        first, changed = site.inventory(hosts), site.inventory(hosts, first_rack="changed")
        apply = service.inventories.apply
        _warm_up(service)
        taken = {
            "apply": _seconds(lambda: apply([first], prune=False, confirmed=False, principal=site.OPERATOR)),
            "again": _seconds(lambda: apply([changed], prune=False, confirmed=False, principal=site.OPERATOR)),
            "dhcp": statistics.median(_seconds(service.exports.dhcp) for _ in range(5)),
            "explain": _seconds(lambda: _explain_all(service)),
        }
        lines = service.exports.dhcp().splitlines(True)
        assert len(service.core.hosts) == hosts == sum(line.startswith("dhcp-host=") for line in lines)
    finally:
        service.close()
    own = f"dhcp-leasefile={root}/leases\n"
    (root / "dnsmasq.conf").write_text("".join(own if line.startswith("dhcp-leasefile=") else line for line in lines))
    return taken | {"memory": memory(os.getpid(), "VmHWM")}


def _explain_all(service: Service) -> None:
    for name in service.core.hosts:
        service.reports.explain(name, site.OPERATOR)


def _warm_up(service: Service) -> None:
    """Load modules and templates before anything is timed: for the small site they would be much of the time."""
    service.inventories.apply([site.inventory(10)], prune=False, confirmed=False, principal=site.OPERATOR)
    service.exports.dhcp()
    service.reports.explain(site.name(0), site.OPERATOR)


def _one(server: site.Namespace, hosts: int, start_dnsmasq: bool) -> dict[str, float]:
    with workspace("provision-bench-") as root:
        found: dict[str, float] = json.loads(server.run(python("bench.scale", root, str(hosts))))
        if start_dnsmasq:
            found["dnsmasq"] = _dnsmasq(server, root)
    return found


def _dnsmasq(server: site.Namespace, root: Path) -> float:
    """Seconds until a real dnsmasq, which has checked the file first, listens for DHCP with it."""
    config = f"--conf-file={root}/dnsmasq.conf"
    server.run(["dnsmasq", "--test", config])
    argv = ["dnsmasq", "--keep-in-foreground", "--user=root", "--group=root", "--pid-file=", config]
    start = time.perf_counter()
    with process(server.argv(argv), lambda: bool(server.run(["ss", "-Hlun", "sport = :67"]))):
        return time.perf_counter() - start


def main(small: int = SMALL, large: int = LARGE, rounds: int = ROUNDS, each_side: int = EACH_SIDE) -> list[Row]:
    """Measure, print the table, return its rows."""
    found: list[tuple[dict[str, float], list[dict[str, float]]]] = []
    with site.lan(0) as (server, _):
        for n in range(rounds):
            few = [_one(server, small, start_dnsmasq=False) for _ in range(each_side)]
            many = _one(server, large, start_dnsmasq=n == 0)
            found.append((many, few + [_one(server, small, start_dnsmasq=False) for _ in range(each_side)]))
    rows = []
    for step, label in _STEPS.items():
        pairs = [(many[step], statistics.mean(one[step] for one in few)) for many, few in found]
        rows.append(paired(f"{label}: {large:,} hosts / {small:,}", "s", LIMIT, pairs))
    peak, low = max(many["memory"] for many, _ in found), max(one["memory"] for _, few in found for one in few)
    rows.append(Row(f"memory, highest: {large:,} hosts / {small:,}", peak, low, "MiB", peak / low, MEMORY))
    started = found[0][0]["dnsmasq"]
    rows.append(Row(f"dnsmasq takes the file of {large:,} hosts and listens", started, started, "s", 1.0, "none"))
    print(table(rows))
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
    else:
        main()
