"""`python -m bench [NAME...]`: run the benchmarks and print their tables; a run of all writes docs/benchmarks.md.

The exit code says whether the benchmarks worked, not whether goals were met: a missed goal stands in the table.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.common import Row, table

NAMES = (
    *("stream", "tls", "links", "first_byte", "disks", "configs", "pinning", "storm", "browsers", "api"),
    *("scale", "alive", "tpm", "tftp", "cli", "image", "boot", "tpm_boot"),
)
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"

_HEAD = """\
# Benchmarks

Written by `make bench` (`python -m bench` in the virtual environment), with everything on one machine: {machine}.

Each figure of ours stands beside a peer's that was measured in the same run. The two were measured in turns, a pair
at a time; the table has the medians of both sides, and as ratio (ours / peer) the median of the pairs' ratios. Where a
goal is in MiB it is for our figure, otherwise for the ratio. Other work on the machine makes single figures worse or
better; it moves ratios less.
"""


def machine() -> str:
    """What the figures depend on, without naming anything: cores, architecture, kernel series, Python."""
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    cores = len(os.sched_getaffinity(0))
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{cores} cores, {platform.machine()}, {platform.system()} {kernel}, Python {python}"


def document(sections: Mapping[str, tuple[str, Sequence[Row]]]) -> str:
    """The text of docs/benchmarks.md, of (what is measured, rows) by the benchmark's name."""
    missed = [f"{name}: {row.name}" for name, (_, rows) in sections.items() for row in rows if row.verdict == "missed"]
    summary = "Goals missed:\n\n" + "\n".join(f"- {line}" for line in missed) if missed else "All goals were met."
    parts = [_HEAD.format(machine=machine()) + f"\n{summary}\n"]
    parts += [f"## {name}\n\n{text.strip()}\n\n{table(rows)}\n" for name, (text, rows) in sections.items()]
    return "\n".join(parts)


def main(names: Sequence[str]) -> int:
    """Run the named benchmarks (none: all of them); returns the exit code."""
    if unknown := set(names) - set(NAMES):
        print(f"bench: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    sections = {}
    for name in names or NAMES:
        module = importlib.import_module(f"bench.{name}")
        load, start = os.getloadavg()[0], time.monotonic()
        print(f"== {name} (load average before: {load:.2f})", flush=True)
        sections[name] = module.__doc__ or "", module.main()
        print(f"   {time.monotonic() - start:.0f} s\n", flush=True)
    for name, (_, rows) in sections.items():
        for row in rows:
            if row.verdict == "missed":
                print(f"MISSED {name}: {row.name}: {row.ratio:.3g}, goal {row.goal}")
    if not names:
        DOCUMENT.write_text(document(sections))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
