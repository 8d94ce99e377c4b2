"""What came of the boot matrix: a file with a line for each boot, and the tables that docs/deployment.md has of it.

`python -m tests.helpers.boot_results FILE` writes the tables, as far as the boots have gone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from provision.lab.vm import Firmware
from tests.helpers.boot_matrix import POSSIBLE, RULES, Addressing, Cell, Install, Storage, Way
from tests.helpers.paths import ROOT

DOCUMENT = ROOT / "docs/deployment.md"
BEGIN, END = "<!-- boot-matrix: begin -->", "<!-- boot-matrix: end -->"
_FIRMWARE = {Firmware.BIOS: "BIOS", Firmware.UEFI: "UEFI", Firmware.SECURE_BOOT: "UEFI, Secure Boot"}


@dataclass(frozen=True)
class Result:
    """What came of one boot; `seconds` from power-on until everything was looked at."""

    cell: str
    passed: bool
    seconds: float


def read(path: Path) -> dict[str, Result]:
    """The last result of each cell, by its name; none when there is no such file."""
    if not path.exists():
        return {}
    found = (Result(**json.loads(line)) for line in path.read_text().splitlines())
    return {result.cell: result for result in found}


def append(path: Path, result: Result) -> None:
    """Add a result; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def tables(results: Mapping[str, Result]) -> str:
    """The tables in Markdown: the boots, how far each row of the install matrix is covered, what does not exist."""
    return "\n".join((*_boots(results), "", *_installs(results), "", *_rules()))


def _boots(results: Mapping[str, Result]) -> Iterator[str]:
    yield "| firmware | boots from | storage | " + " | ".join(Addressing) + " |"
    yield "| --- " * (3 + len(Addressing)) + "|"
    for firmware, way, storage in product(Firmware, Way, Storage):
        cells = [Cell(firmware, way, addressing, storage) for addressing in Addressing]
        if any(cell in POSSIBLE for cell in cells):
            said = [_said(cell, results) for cell in cells]
            yield f"| {_FIRMWARE[firmware]} | {way} | {storage} | " + " | ".join(said) + " |"


def _said(cell: Cell, results: Mapping[str, Result]) -> str:
    result = results.get(cell.name)
    if result is None:
        return "not yet"
    return f"{result.seconds:.0f} s" if result.passed else "failed"


def _installs(results: Mapping[str, Result]) -> Iterator[str]:
    yield "| row of the install matrix | ways to boot | booted |"
    yield "| --- | --- | --- |"
    for install in Install:
        cells = [cell for cell in POSSIBLE if cell.install is install]
        booted = sum(cell.name in results and results[cell.name].passed for cell in cells)
        yield f"| {install} | {len(cells)} | {booted} |"


def _rules() -> Iterator[str]:
    yield "| what does not exist | because |"
    yield "| --- | --- |"
    for rule in RULES:
        yield f"| `{rule.name}` | {rule.reason} |"


def replaced(text: str, new: str) -> str:
    """A document with other tables between the marks; raises ValueError when it has no marks."""
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:begin]}\n\n{new}\n\n{text[end:]}"


if __name__ == "__main__":
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), tables(read(Path(sys.argv[1])))))
