"""The picture of a boot: its parts from left to right, each filled as far as it was sent."""

from __future__ import annotations

from dataclasses import dataclass

from provision.api.status import HostStatus
from provision.service.progress import PARTS

WIDTH, GAP = 120, 8
"""Of one part, in the picture's own units."""


@dataclass(frozen=True)
class Part:
    """One part of the picture: its word, how much of it was sent (0 to 100), where it begins and how wide that is.

    `begun`: some of it was sent, and how much is not known: the service was started anew since.
    """

    name: str
    percent: int
    x: int
    filled: int
    begun: bool = False

    @property
    def state(self) -> str:
        """The same in a word."""
        return "done" if self.percent >= 100 else "under way" if self.percent or self.begun else "not yet"


def timeline(status: HostStatus) -> tuple[Part, ...]:
    """The parts of a host's boot. What came before something that was sent is over, however much of it was read."""
    reached = (*PARTS, "up")
    percents = [status.parts.get(name, 0) for name in PARTS] + [100 if status.up else 0]
    if status.stage in reached:
        furthest = reached.index(status.stage)
        percents = [100 if place < furthest else percent for place, percent in enumerate(percents)]
    return tuple(
        Part(name, percent, place * (WIDTH + GAP), round(WIDTH * percent / 100), name == status.stage)
        for place, (name, percent) in enumerate(zip(reached, percents, strict=True))
    )
