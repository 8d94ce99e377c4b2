"""How far every boot has come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from provision.boot import Window
from provision.service.core import Core
from provision.service.progress import Progress, Tracker


class Reports:
    """What operators are told of hosts and unknown machines; loads little, and changes nothing."""

    def __init__(self, core: Core, tracker: Tracker) -> None:
        self._core, self._tracker = core, tracker

    def status(self, name: str | None = None) -> dict[str, Any]:
        """How far every host (or one) has come, and which unknown machines asked."""
        followed = self._tracker.all()
        names = [name] if name else list(self._core.hosts)
        unknown = [] if name else self._core.store.sightings.all()
        return {
            "hosts": [self._host_status(n, followed.get(n)) for n in names],
            "unknown": [
                {"mac": u.mac, "uuid": u.uuid, "network": u.network, "last": u.last.isoformat(), "count": u.count}
                for u in unknown
            ],
            "warnings": [str(warning) for warning in self._core.warnings()],
            "problems": self._core.footing.problems(),
        }

    def _host_status(self, name: str, progress: Progress | None) -> dict[str, Any]:
        state, now = self._core.state(name), self._core.clock()
        boots = self._core.store.boots.of(name) if progress is None else [progress.boot]
        seen = (b for b in boots if b.medium.from_network or b.up)
        boot = max(seen, key=lambda b: b.up or b.charged or b.started, default=None)
        stage = (
            progress.stage if progress else "up" if boot and boot.up else "seed" if boot and boot.charged else "nothing"
        )
        return {
            "host": name,
            "stage": stage,
            "parts": {part: round(100 * value) for part, value in progress.parts.items()} if progress else {},
            "medium": str(boot.medium) if boot else None,
            "mac": boot.mac if boot else None,
            "network": boot.network if boot else None,
            "started": boot.started.isoformat() if boot else None,
            "up": boot.up.isoformat() if boot and boot.up else None,
            "window": shown(state.window, now) if state.window else None,
            "heard": state.heard.isoformat() if state.heard else None,
            "alerts": [
                {"event": alert.event, "text": alert.text, "count": alert.count, "last": alert.last.isoformat()}
                for alert in self._core.alerts.of(name, now)
            ],
        }


def shown(window: Window, now: datetime) -> dict[str, Any]:
    """A window as operators see it."""
    return {
        "open": window.is_open(now),
        "expires": window.expires.isoformat(),
        "boots": window.boots,
        "used": window.used,
    }
