"""What a person at a terminal sees while something takes its time."""

from __future__ import annotations

from typing import Any

import pytest
from rich.progress import Progress

from provision.cli import output


def test_a_stage_that_is_done_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Progress] = []

    class Kept(Progress):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(output, "Progress", Kept)
    with output.stages(quiet=True) as progress:
        (task,) = bars[0].tasks
        assert not task.visible
        for stage, part, shown in (("reading", 0.5, True), ("reading", 1.0, False), ("writing", 0.0, True)):
            progress(stage, part)
            assert (task.description, task.visible) == (stage, shown)
