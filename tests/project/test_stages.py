"""tools/stages and tools/flaky: every stage runs, the last lines say what failed, and the seed decides the order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import in_turn
from tests.helpers.paths import ROOT
from tests.helpers.shuffled import shuffled

MAKE = """#!/bin/sh
echo "$2" >>"$SAID"
case "$2" in
unit)
    printf '%s\\n' 'FAILED tests/unit/test_a.py::test_b[x@y]@unit/test_a.py - no' 'ERROR tests/unit/test_c.py' FAILED
    exit 2 ;;
types) echo 'Found 3 errors'; exit 1 ;;
esac
"""


def run(tmp_path: Path, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    fake = tmp_path / "make"
    fake.write_text(MAKE)
    fake.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "MAKE": str(fake), "SAID": str(tmp_path / "said")}
    return subprocess.run(
        [str(word) for word in argv], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_stages_go_on_after_one_that_failed_and_the_end_names_all(tmp_path: Path) -> None:
    done = run(tmp_path, "tools/stages", "lint", "types", "unit", "boot")
    assert (tmp_path / "said").read_text().split() == ["lint", "types", "unit", "boot"]
    assert done.returncode == 1
    _, _, summary = done.stdout.partition("\n\n")
    assert [line.split() for line in summary.splitlines()] == [
        ["lint", "passed"],
        ["types", "FAILED"],
        ["unit", "FAILED"],
        ["tests/unit/test_a.py::test_b[x@y]"],
        ["tests/unit/test_c.py"],
        ["boot", "passed"],
    ]


def test_stages_beside_each_other_are_said_one_after_the_other(tmp_path: Path) -> None:
    done = run(tmp_path, "tools/stages", "lint,types,unit", "boot")
    said = (tmp_path / "said").read_text().split()
    assert (sorted(said[:3]), said[3:]) == (["lint", "types", "unit"], ["boot"])
    output, _, summary = done.stdout.partition("\n\n")
    assert [line.split()[0] for line in output.splitlines()] == ["Found", "FAILED", "ERROR", "FAILED"]
    assert done.returncode == 1
    assert [line.split()[-1] for line in summary.splitlines() if "tests/" not in line] == [
        *("passed", "FAILED", "FAILED", "passed")
    ]


def test_boots_and_files_take_turns() -> None:
    boots, files = [["b1"], ["b2"], ["b3"], ["b4"]], [["f1", "f1"], ["f2"]]
    assert in_turn(boots, files) == [["b1"], ["f1", "f1"], ["b2"], ["b3"], ["f2"], ["b4"]]
    assert in_turn([], files) == files


def test_stages_that_pass_end_well(tmp_path: Path) -> None:
    done = run(tmp_path, "tools/stages", "lint", "boot")
    assert (done.returncode, done.stdout.split()) == (0, ["lint", "passed", "boot", "passed"])


def test_flaky_counts_what_failed_and_says_the_seeds(tmp_path: Path) -> None:
    program = tmp_path / "pytest"
    program.write_text(
        '#!/bin/sh\necho "$*" >>"$SAID"\n'
        '[ "$(wc -l <"$SAID")" = 1 ] || { echo "FAILED tests/x.py::test_y[a b]@x.py - no"; exit 1; }\n'
    )
    program.chmod(0o755)
    done = run(tmp_path, "tools/flaky", "3", program, "-q")
    lines = done.stdout.splitlines()
    given = (tmp_path / "said").read_text().splitlines()
    seeds = [line.rsplit(" ", 1)[1] for line in given]
    assert [line.rsplit(" ", 1)[0] for line in given] == ["-q -p tests.helpers.shuffled --seed"] * 3
    assert len(set(seeds)) == 3
    assert done.returncode == 1
    assert lines[-4:-1] == ["flaky: 2 of 3 runs failed", *(f"run {n}, --seed {seeds[n - 1]}" for n in (2, 3))]
    assert lines[-1].strip() == "2 tests/x.py::test_y[a b]"
    assert run(tmp_path, "tools/flaky", "2", "/bin/true").returncode == 0


def test_flaky_runs_what_the_test_command_runs() -> None:
    def needed(*targets: str) -> tuple[set[str], set[str]]:
        """The groups of packages that the targets need, and which tests they leave out."""
        command = ["make", "--dry-run", "--no-print-directory", "--old-file", ".venv/.ready", *targets]
        # A make that runs the tests tells others how to run.
        alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=alone, timeout=60)
        said = done.stdout
        groups = {group for line in re.findall(r"^tools/need (.+)$", said, re.MULTILINE) for group in line.split()}
        return groups, set(re.findall(r'-m "([^"]+)"', said))

    groups, chosen = needed("unit", "lab")
    assert needed("programs") == (groups, set())
    assert chosen == {"not integration and not boot and not packages", "(integration or boot) and not long"}
    assert needed("flaky") == (groups, {"not packages and not long"})


@pytest.mark.parametrize("seed", [0, 7])
def test_a_seed_decides_the_order_and_keeps_files_together(seed: int) -> None:
    items = [f"{file}{number}" for file in "abcdefgh" for number in range(9)]
    order = shuffled(list(items), seed, lambda item: item[0])
    assert order == shuffled(list(items), seed, lambda item: item[0])
    assert order != shuffled(list(items), seed + 1, lambda item: item[0])
    assert sorted(order) == items != order
    files = [item[0] for item in order]
    assert all(files.index(file) + files.count(file) == 72 - files[::-1].index(file) for file in set(files))
