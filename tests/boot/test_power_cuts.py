"""No moment at which the power goes costs a host its identity: a sample of what `make power-cuts` tries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from provision.image.build import Image
from provision.lab.crashes import spread, states
from provision.lab.lans import Lab
from provision.lab.vm import Firmware
from provision.lab.write_log import Entry, Flush, Write
from provision.media import gpt, identity
from tests.power_cuts import records
from tests.power_cuts.machines import Bench, empty
from tests.power_cuts.oem import OnDisk
from tests.power_cuts.scenarios import SCENARIOS, Machines, Recording, look, put, seed
from tests.power_cuts.signed import OnSigned
from tests.power_cuts.survey import Doing

BOOTS = {"first boot": 6, "newer identity": 6, "decommission": 6, "trial begun": 1, "signed image committed": 1}


def by_hand(directory: Path, writes: Sequence[tuple[int, bytes]], flushed: bool) -> Recording:
    """What somebody writes to a disk that holds the old identity, with or without a flush behind each write."""
    before, log = directory / "before.img", directory / "log"
    put(empty(before), seed("old"))
    entries: list[Entry] = []
    with log.open("wb") as file:
        for offset, data in writes:
            entries += [Write(offset, len(data), file.tell())] + [Flush()] * flushed
            file.write(data)
    return Recording(before, log, tuple(entries))


def test_what_would_lose_an_identity_is_seen(tmp_path: Path) -> None:
    """Both copies with a flush behind each write lose nothing; without, they do, and so does a table in place."""
    before = put(empty(tmp_path / "disk"), seed("old"))
    parts = records.table(before)
    assert parts is not None
    offset, size = parts[identity.NAME]
    both = [(offset + at, data) for place in (0, 1) for at, data in identity.write(size, place, 3 + place, seed("new"))]
    found = gpt.read_table(before)

    def complaints(writes: Sequence[tuple[int, bytes]], *, flushed: bool) -> list[str]:
        recording = by_hand(tmp_path, writes, flushed)
        return look(recording, list(states(recording.entries, 8, 7)), tmp_path / "work")

    assert complaints(both, flushed=True) == []
    assert any(line.endswith("identity is none") for line in complaints(both, flushed=False))
    gpt.write_table(
        before, gpt.Table(UUID(int=9), (*found.partitions, gpt.Partition(gpt.LINUX, UUID(int=7), 40, 50, "x")))
    )
    table = [(512, before.read_bytes()[512 : 34 * 512])]
    assert any(line.endswith("table is None") for line in complaints(table, flushed=True))


@pytest.fixture(scope="module")
def machines(probe: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Paused machines, for as many of these tests as run in one process."""
    with Lab("cuts", tmp_path_factory.mktemp("cuts")) as lab:
        yield Machines(Bench(lab, probe, Firmware.BIOS))


SAMPLE = [*SCENARIOS, OnDisk("trial begun"), OnSigned("signed image committed")]


@pytest.mark.parametrize("scenario", SAMPLE, ids=lambda scenario: scenario.name)
def test_no_power_cut_costs_a_host_its_identity(machines: Machines, tmp_path: Path, scenario: Doing) -> None:
    recording = scenario.record(machines, tmp_path)
    found = list(states(recording.entries, 3, 7))
    assert look(recording, found, tmp_path / "work", scenario.facts) == []
    chosen = enumerate(spread(found, BOOTS[scenario.name], 7))
    wrong = [scenario.boot(machines, recording, state, tmp_path / str(n), n % 2 == 1) for n, state in chosen]
    assert [one for one in wrong if one] == []
