"""`python -m tests.integration.attacks RUNS`: run every variant of every race so often, and print the table.

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

from tests.integration.attacks.runner import end_by_signal, run, variants
from tests.integration.attacks.table import failures, table


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="attacks", description="Run the races, and print what came of them.")
    parser.add_argument("runs", type=int, nargs="?", default=1, help="runs of each variant (1)")
    parser.add_argument("--jobs", type=int, default=2, help="laboratories at a time (2)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only variants with this text in their name")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and captures of runs that lost something")
    given = parser.parse_args(arguments)
    chosen = variants(given.only)
    if given.runs < 1 or given.jobs < 1 or not chosen:
        parser.error(f"no variant has {given.only!r}" if not chosen else "RUNS and --jobs are at least 1")
    signal.signal(signal.SIGTERM, end_by_signal)
    begin = time.monotonic()
    wanted = [attack for attack in chosen for _ in range(given.runs)]
    outcomes = run(wanted, given.jobs, given.keep)
    lost = failures(outcomes)
    taken = time.monotonic() - begin
    sys.stdout.write(f"{table(outcomes)}\n{len(chosen)} variants, {len(outcomes):,} runs, {taken:.0f} s\n")
    sys.stdout.writelines(f"BROKEN {line}\n" for line in lost)
    return 1 if lost or len(outcomes) < len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
