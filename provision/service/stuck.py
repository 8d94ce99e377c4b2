"""Boots that have stopped somewhere: told once of each, a while after the last thing that was seen of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from provision.boot import Role
from provision.service.core import Core
from provision.service.progress import Progress, Tracker


class Stuck:
    """Looks at the boots under way. Which of them were told of is in memory, as they are."""

    def __init__(self, core: Core, tracker: Tracker) -> None:
        self._core, self._tracker = core, tracker
        self._told: set[int] = set()

    def look(self) -> None:
        """Let the audit log say of each boot that is stuck that it is, once. Raises Unavailable."""
        found = [one for one in self._tracker.all().values() if self._is_stuck(one, self._core.clock())]
        self._told &= {one.boot.id for one in found}
        for progress in found:
            if progress.boot.id not in self._told:
                self._tell(progress)
                self._told.add(progress.boot.id)

    def _is_stuck(self, progress: Progress, now: datetime) -> bool:
        """Whether nothing was seen of it for long. On a general network nobody says that it is up, so nobody knows."""
        site = self._core.store.snapshot.site
        network = site.networks.get(progress.boot.network) if site is not None else None
        if progress.boot.up is not None or network is None or network.role is not Role.MANAGEMENT:
            return False
        return now - progress.seen >= timedelta(minutes=self._core.settings.stuck_minutes)

    def _tell(self, progress: Progress) -> None:
        boot = progress.boot
        about = {"host": boot.host, "mac": boot.mac, "medium": str(boot.medium), "network": boot.network}
        reason = (
            f"nothing was seen of it for {self._core.settings.stuck_minutes} minutes; the last was {progress.stage}"
        )
        self._core.note("stuck", None, boot=boot.id, reason=reason, **about)
