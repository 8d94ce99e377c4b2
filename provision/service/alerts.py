"""What an operator should look at: told to the journal at once, shown with the host's status for a day."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

_AGAIN = timedelta(minutes=1)
_SHOWN = timedelta(days=1)
_log = logging.getLogger(__name__)


@dataclass
class Alert:
    """One kind of thing that happened to a host: its last `text`, how often since it is shown, and when last."""

    event: str
    text: str
    count: int
    last: datetime
    _told: datetime


class Alerts:
    """The alerts of each host, one of each kind. In memory: the audit log has every one of them."""

    def __init__(self) -> None:
        self._hosts: dict[str, dict[str, Alert]] = {}
        self._lock = Lock()

    def raise_(self, host: str, event: str, text: str, now: datetime) -> None:
        """Note it. The journal is told the first time and once a minute while it goes on: the cause costs
        the journal no more."""
        with self._lock:
            alerts = self._hosts.setdefault(host, {})
            alert = alerts.get(event)
            if alert is None or abs(now - alert.last) >= _SHOWN:
                alert = alerts[event] = Alert(event, text, 0, now, now - _AGAIN)
            alert.text, alert.count, alert.last = text, alert.count + 1, now
            told = abs(now - alert._told) < _AGAIN
            if not told:
                alert._told = now
        if not told:
            _log.warning("ALERT %s: %s: %s", event, host, text)

    def counts(self, hosts: Container[str], now: datetime) -> dict[str, int]:
        """How many of `hosts` have an alert of the last day, by what it is about."""
        with self._lock:
            every = [(host, alert) for host, alerts in self._hosts.items() for alert in alerts.values()]
        return Counter(one.event for host, one in every if host in hosts and abs(now - one.last) < _SHOWN)

    def of(self, host: str, now: datetime) -> list[Alert]:
        """The host's alerts of the last day, the newest first."""
        with self._lock:
            found = [alert for alert in self._hosts.get(host, {}).values() if abs(now - alert.last) < _SHOWN]
        return sorted(found, key=lambda alert: alert.last, reverse=True)
