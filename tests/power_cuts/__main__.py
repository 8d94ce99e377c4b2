"""`make power-cuts`: `python -m tests.power_cuts POINTS --jobs N --directory DIRECTORY`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.helpers.probe_image import build_probe
from tests.power_cuts.survey import Survey, table


def main() -> int:
    """Print what was lost, and the table, which is also written to the directory."""
    parser = argparse.ArgumentParser(prog="power-cuts", description=__doc__)
    parser.add_argument("points", type=int, nargs="?", default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--directory", type=Path, default=Path("build/power-cuts"))
    options = parser.parse_args()
    rows = Survey(build_probe(), options.directory, options.jobs).run(options.points)
    wrong = [one for row in rows for one in (*row.complaints, *filter(None, row.results.values()))]
    text = table(rows)
    (options.directory / "table.md").write_text(text)
    sys.stdout.write("\n".join([*wrong, text]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
