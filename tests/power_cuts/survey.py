"""All of `make power-cuts`: what was recorded and what came of each boot is kept, so that it goes on after an end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from provision.image.build import Image
from provision.lab.crashes import State, spread, states
from provision.lab.lans import Lab
from provision.lab.vm import Firmware
from tests.power_cuts.machines import Bench
from tests.power_cuts.oem import DISK_SCENARIOS, OnDisk
from tests.power_cuts.scenarios import SCENARIOS, Machines, Scenario, look
from tests.power_cuts.signed import SIGNED_SCENARIOS, OnSigned

FIRMWARES = (Firmware.BIOS, Firmware.UEFI)
Doing = Scenario | OnDisk | OnSigned


@dataclass
class Row:
    """What came of one scenario on one firmware."""

    scenario: str
    firmware: str
    points: int
    looked_at: int
    complaints: list[str]
    results: dict[str, str] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        kinds = Counter(result.partition(":")[0] for result in self.results.values())
        lost = kinds["lost"] + len(self.complaints)
        numbers = self.points, self.looked_at, len(self.results), kinds["brick"], lost
        return self.scenario, self.firmware, *map(str, numbers)


HEAD = ("scenario", "firmware", "points", "states looked at", "booted", "bricks", "lost identities")


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, with their sum."""
    cells = [row.cells() for row in rows]
    total = ("all", "", *(str(sum(int(row[at]) for row in cells)) for at in range(2, len(HEAD))))
    lines = [HEAD, ("---",) * len(HEAD), *cells, total]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True)
class Survey:
    """What is in `directory` is gone on with; `jobs` machines run at the same time."""

    image: Image
    directory: Path
    jobs: int

    def run(self, boots: int) -> list[Row]:
        """Boot so many states in all, spread evenly over scenarios and firmware, and look at many more. What a scenario
        has fewer of, the next ones have more of."""
        groups: tuple[Sequence[Doing], ...] = (SCENARIOS, DISK_SCENARIOS)
        pairs = [(scenario, firmware) for group in groups for firmware in FIRMWARES for scenario in group]
        pairs += [(scenario, Firmware.UEFI) for scenario in SIGNED_SCENARIOS]
        shares = [(number + 1) * boots // len(pairs) - number * boots // len(pairs) for number in range(len(pairs))]
        rows, lacking = [], 0
        for (scenario, firmware), share in zip(pairs, shares, strict=True):
            with Lab("cuts", self.directory / "lab" / firmware) as lab:
                row = self._one(scenario, Machines(Bench(lab, self.image, firmware)), share + lacking)
            rows.append(row)
            lacking = max(0, share + lacking - len(row.results))
            print(table(rows[-1:]).splitlines()[2], flush=True)  # noqa: T201
        return rows

    def _one(self, scenario: Doing, machines: Machines, boots: int) -> Row:
        firmware = machines.bench.firmware
        place = self.directory / f"{scenario.name.replace(' ', '-')}-{firmware}"
        recording = scenario.record(machines, place)
        found = list(states(recording.entries, max(1, min(8, 200 // recording.points)), 7))
        complaints = look(recording, found, place / "work", scenario.facts)
        row = Row(scenario.name, firmware, recording.points, len(found), complaints)
        kept = place / "results"
        row.results = dict(map(json.loads, kept.read_text().splitlines())) if kept.exists() else {}
        chosen = spread([(str(number), state) for number, state in enumerate(found)], boots, 7)

        def boot(one: tuple[str, State]) -> tuple[str, str]:
            number, state = one
            return number, scenario.boot(machines, recording, state, place / number, int(number) % 2 == 1)

        with ThreadPoolExecutor(self.jobs) as pool, kept.open("a") as file:
            for result in pool.map(boot, [one for one in chosen if one[0] not in row.results]):
                print(json.dumps(result), file=file, flush=True)
                row.results.update([result])
        return row
