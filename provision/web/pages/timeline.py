"""The picture of a boot: its parts from left to right, each filled as far as it was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from provision.api.status import HostStatus
from provision.service.link_reads import Read
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


def booting(status: HostStatus, reads: Sequence[Read]) -> Read | None:
    """What of its medium a host boots from, when it boots from one that is read by a link: the link that was made last,
    unless a boot has begun since that the server sees by itself."""
    last = max((read for read in reads if read.parts), key=lambda read: read.made, default=None)
    if last is None or (status.started is not None and datetime.fromisoformat(status.started) > last.made):
        return None
    return last


def timeline(status: HostStatus, read: Read | None = None) -> tuple[Part, ...]:
    """The parts of a host's boot, by what was `read` of its medium if there is that. What came before something that
    was sent is over, however much of it was read."""
    reached = (*PARTS, "up")
    parts, stage, up = status.parts, status.stage, status.up
    if read is not None:
        # A BMC reads ahead of what the machine asks for: the furthest part that was read is not yet the boot's stage.
        parts, up = {name: percent for name, percent in read.parts.items() if percent}, None
        stage = next((name for name in reversed(PARTS) if name in parts), PARTS[0])
    percents = [parts.get(name, 0) for name in PARTS] + [100 if up else 0]
    if stage in reached:
        furthest = reached.index(stage)
        percents = [100 if place < furthest else percent for place, percent in enumerate(percents)]
    return tuple(
        Part(name, percent, place * (WIDTH + GAP), round(WIDTH * percent / 100), name == stage)
        for place, (name, percent) in enumerate(zip(reached, percents, strict=True))
    )
