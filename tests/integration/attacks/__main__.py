"""`python -m tests.integration.attacks RUNS`: run every race so often, and print the table.

A race is what is asked for, what the host does and when the attacker's ARP comes; what that ARP says changes from run
to run, and each variant of it has its turn.

Exit code 1: a secret byte left, a host was left behind or its window was used up by an attacker, or not all runs were
made; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.integration.attacks.runner import end_by_signal, run, turns, variants
from tests.integration.attacks.table import failures, table


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="attacks", description="Run the races, and print what came of them.")
    parser.add_argument(
        "runs", type=int, nargs="?", default=1, help="runs of each race, at least one of each variant (1)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="laboratories at a time (2)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="only variants with this text in their name; may be repeated",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and captures of runs that lost something")
    given = parser.parse_args(arguments)
    chosen = variants(given.only)
    if given.runs < 1 or given.jobs < 1 or not chosen:
        parser.error(f"no variant has {' or '.join(given.only)!r}" if not chosen else "RUNS and --jobs are at least 1")
    if given.keep and given.keep.exists() and any(given.keep.iterdir()):
        parser.error(f"--keep {given.keep}: is not empty; name a directory that is, or a new one")
    signal.signal(signal.SIGTERM, end_by_signal)
    begin = time.monotonic()
    wanted = turns(chosen, given.runs)
    outcomes = run(wanted, given.jobs, given.keep)
    lost = failures(outcomes)
    taken = time.monotonic() - begin
    sys.stdout.write(f"{table(outcomes)}\n{len(chosen)} variants, {len(outcomes):,} runs, {taken:.0f} s\n")
    sys.stdout.writelines(f"BROKEN {line}\n" for line in lost)
    return 1 if lost or len(outcomes) < len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
