"""The picture of a boot."""

from __future__ import annotations

import pytest

from provision.api.status import HostStatus
from provision.web.pages.timeline import WIDTH, timeline


def status(stage: str, parts: dict[str, int], up: str | None = None) -> HostStatus:
    nothing = dict.fromkeys(("medium", "mac", "network", "started", "seen", "window", "heard"))
    return HostStatus.model_validate({"host": "n", "stage": stage, "parts": parts, "up": up, "alerts": (), **nothing})


@pytest.mark.parametrize(
    ("stage", "parts", "up", "percents"),
    [
        ("nothing", {}, None, [0, 0, 0, 0, 0]),
        ("kernel", {"configuration": 100, "kernel": 40}, None, [100, 40, 0, 0, 0]),
        ("initrd", {"configuration": 100, "kernel": 97, "initrd": 3}, None, [100, 100, 3, 0, 0]),
        ("seed", {}, None, [100, 100, 100, 0, 0]),
        ("up", {}, "2026-03-01T12:00:00+00:00", [100, 100, 100, 100, 100]),
    ],
)
def test_parts_are_filled_as_far_as_they_were_sent(
    stage: str, parts: dict[str, int], up: str | None, percents: list[int]
) -> None:
    found = timeline(status(stage, parts, up))
    assert [part.percent for part in found] == percents
    assert [part.filled for part in found] == [round(WIDTH * percent / 100) for percent in percents]


def test_a_part_of_which_nobody_knows_how_much_was_sent() -> None:
    assert [part.state for part in timeline(status("seed", {}))] == ["done", "done", "done", "under way", "not yet"]


def test_each_part_has_a_word() -> None:
    found = timeline(status("kernel", {"configuration": 100, "kernel": 40}))
    assert [part.state for part in found] == ["done", "under way", "not yet", "not yet", "not yet"]
