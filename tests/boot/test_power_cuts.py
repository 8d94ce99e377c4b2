"""No moment at which the power goes costs a host its identity: a sample of what `make power-cuts` tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.image.build import Image
from provision.lab.crashes import spread, states
from provision.lab.lans import Lab
from provision.lab.vm import Firmware
from tests.power_cuts.machines import Bench
from tests.power_cuts.scenarios import SCENARIOS, Machines, Scenario, copy, look

BOOTS = {"first boot": 7, "newer identity": 7, "decommission": 6}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_power_cut_costs_a_host_its_identity(lab: Lab, probe: Image, tmp_path: Path, scenario: Scenario) -> None:
    machines = Machines(Bench(lab, probe, Firmware.BIOS))
    recording = scenario.record(machines, tmp_path / "recorded")
    found = list(states(recording.entries, 3, 7))
    assert look(recording, found, tmp_path / "work") == []
    wrong = []
    with recording.crashed(tmp_path / "work") as disk:
        for number, state in enumerate(spread(found, BOOTS[scenario.name], 7)):
            disk.put(state)
            copy(tmp_path / "work", tmp_path / "booted")
            wrong += [scenario.boot(machines, tmp_path / "booted", number % 2 == 1, str(number))]
    assert [one for one in wrong if one] == []
