"""How far each boot has come, as the server itself sees it: no agent is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from provision.boot import SAME_BOOT, Boot, Medium
from provision.service.recent import Recent

PARTS = ("configuration", "kernel", "initrd", "seed")
_KEPT = 20_000


@dataclass
class Progress:
    """One boot under way: `parts` has the fraction (0..1) of each part that was sent, `boot` its record. A `plain` one
    is given the image alone."""

    boot: Boot
    parts: dict[str, float] = field(default_factory=dict)
    at: datetime | None = None
    plain: bool = False

    @property
    def seen(self) -> datetime:
        """When something was last seen of it."""
        return max(filter(None, (self.boot.started, self.boot.charged, self.at)))

    @property
    def stage(self) -> str:
        """The furthest thing seen: "up", "seed", "initrd", "kernel", "configuration" or "nothing"."""
        if self.boot.up:
            return "up"
        return next((part for part in reversed(PARTS) if part in self.parts), "nothing")


class Tracker:
    """The boots under way by network and MAC. Kept in memory, bounded for each network: what must outlive a restart is
    in the store."""

    def __init__(self) -> None:
        self._by_mac = Recent[Progress](_KEPT)
        # The newest boot of each host, which every word of a host that is up is compared with.
        self._newest: dict[str, Progress] = {}

    def running(
        self, mac: str, medium: Medium, network: str, now: datetime, fetching: timedelta = SAME_BOOT
    ) -> Progress | None:
        """The boot of this MAC and medium on that network that is still the same boot at `now`, or None."""
        progress = self._by_mac.get(network, mac)
        if progress is None or progress.boot.medium != medium:
            return None
        return progress if progress.boot.is_running(now, fetching) else None

    def begin(self, boot: Boot) -> Progress:
        """Start to follow `boot`."""
        progress = Progress(boot)
        self._by_mac.put(boot.network, boot.mac, progress)
        known = self.of_host(boot.host)
        if known is None or known.boot.id <= boot.id:
            self._newest[boot.host] = progress
        if len(self._newest) > 2 * _KEPT:
            self._newest = self.all()
        return progress

    def update(self, boot: Boot) -> None:
        """Take the boot's new record (charged, up). A host that is up from a medium is in no boot of its NICs now."""
        if boot.up and not boot.medium.from_network:
            for other in self._by_mac.values():
                if other.boot.host == boot.host:
                    self._by_mac.forget(other.boot.network, other.boot.mac)
        progress = self._by_mac.get(boot.network, boot.mac)
        if progress and progress.boot.id == boot.id:
            progress.boot = boot

    def sent(
        self, mac: str | None, network: str, part: str, fraction: float, now: datetime, since: float = 0.0
    ) -> None:
        """Note that `part` was sent to `mac` on a network, from the fraction `since` (0..1) of it up to `fraction`.

        What does not begin where something ended before is left out: a client that reads the end does not have all of
        it.
        """
        progress = self._by_mac.get(network, mac) if mac else None
        if progress and since <= progress.parts.get(part, 0.0):
            progress.parts[part] = max(progress.parts.get(part, 0.0), min(1.0, fraction))
            progress.at = now

    def of_host(self, host: str) -> Progress | None:
        """The newest boot of `host` that is followed."""
        newest = self._newest.get(host)
        if newest is None or self._by_mac.get(newest.boot.network, newest.boot.mac) is not newest:
            return None
        return newest

    def all(self) -> dict[str, Progress]:
        """The newest followed boot of every host."""
        newest: dict[str, Progress] = {}
        for progress in self._by_mac.values():
            known = newest.get(progress.boot.host)
            if known is None or progress.boot.id > known.boot.id:
                newest[progress.boot.host] = progress
        return newest
