"""Roll-outs of base images: beginning one, how far it is, and taking it back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from provision.api.wire import Answer, Count, Line, Request, Time, examples
from provision.model import LabelKey, LabelValue, Name


class StartRollout(Request):
    """Give `base` to the hosts with a label (`selector`: at most one; none: to all), `percent` of them at a time, and
    stop when more than `max_failures` fail. A boot has `minutes` to come up."""

    model_config = examples({"base": "debian-13", "selector": {"rack": "7"}, "percent": 10})

    base: Name
    selector: dict[LabelKey, LabelValue] = Field(default={}, max_length=1)
    percent: Annotated[int, Field(ge=1, le=100)] = 10
    max_failures: Annotated[int, Field(ge=0, le=10_000)] = 0
    minutes: Annotated[int, Field(ge=5, le=1440)] = 60


class RolloutHost(Answer):
    """A host that has the new base since `moved`, and what came of it: pending, up or failed."""

    host: Name
    moved: Time
    outcome: Line


class RolloutStatus(Answer):
    """A roll-out: its state (running, paused, stopped, done), the hosts that were moved, how many are not yet, and the
    `reason` for which one that was stopped goes no further."""

    model_config = examples(
        {
            "base": "debian-13",
            "selector": {"rack": "7"},
            "percent": 10,
            "max_failures": 0,
            "minutes": 60,
            "state": "running",
            "started": "2026-03-01T12:00:00+00:00",
            "by": "token:ci",
            "left": 27,
            "reason": None,
            "hosts": [{"host": "node1", "moved": "2026-03-01T12:00:00+00:00", "outcome": "up"}],
        }
    )

    base: Name
    selector: dict[LabelKey, LabelValue]
    percent: Count
    max_failures: Count
    minutes: Count
    state: Line
    started: Time
    by: Line
    left: Count
    reason: Line | None
    hosts: tuple[RolloutHost, ...]


class RolledBack(Answer):
    """How many hosts have again the base that the inventory says, and which of them have come up with the other one."""

    model_config = examples({"base": "debian-13", "hosts": 3, "booted": ["node1"]})

    base: Name
    hosts: Count
    booted: tuple[Name, ...]
