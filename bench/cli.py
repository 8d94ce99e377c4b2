"""CPU time of the command line from start to end, against `python -c pass`.

CPU time is user and system time of the process. `status` runs once with no service running, when it opens the state
directory itself, and once with `provision serve`, which it asks. Python keeps the modules that it has compiled, as when
they are installed.

The goals are ratios: 20 and 50 times Python alone, which are 0.2 s and 0.5 s where that takes 10 ms. On a slower
machine a goal can be met while the command takes longer than these seconds.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.common import Row, listens, paired, process, table, workspace

PAIRS = 9
HELP, STATUS = "<= 20", "<= 50"
"""Ratios: Python alone takes about 10 ms where 0.2 s and 0.5 s are wanted."""


def cpu(argv: Sequence[str]) -> float:
    """Milliseconds of CPU that a command takes; its output is thrown away."""
    keeping = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True, env=keeping)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def command(*arguments: str | Path) -> list[str]:
    """The command line as it is installed, with these arguments."""
    return [str(Path(sys.executable).with_name("provision")), *map(str, arguments)]


def against_python(name: str, goal: str, pairs: int, argv: Sequence[str]) -> Row:
    """A row of one command."""
    nothing = [sys.executable, "-c", "pass"]
    cpu(argv)  # the first run writes bytecode
    return paired(name, "ms", goal, [(cpu(argv), cpu(nothing)) for _ in range(pairs)])


def main(pairs: int = PAIRS) -> list[Row]:
    """Measure, print the table, return its rows."""
    with workspace("provision-cli-") as root:
        state = root / "state"
        status = command("--state", state, "status")
        subprocess.run(command("--state", state, "init"), stdout=subprocess.DEVNULL, check=True)
        rows = [
            against_python("provision --help", HELP, pairs, command("--help")),
            against_python("provision status --help", "none", pairs, command("status", "--help")),
            against_python("provision status, no service running", STATUS, pairs, status),
        ]
        with process(command("--state", state, "serve"), listens(state / "operator.sock")):
            rows.append(against_python("provision status, asking the service", STATUS, pairs, status))
    print(table(rows))
    return rows
