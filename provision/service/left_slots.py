"""Hosts that were booted otherwise than from the slots on their disks, of which the server forgets what they said."""

from __future__ import annotations

from datetime import datetime, timedelta

from provision.service.alive import Message
from provision.service.core import Core
from provision.service.news import News
from provision.slots import Doing

_SILENT, _SILENT_IN_UPDATE = timedelta(minutes=10), timedelta(days=1)
"""A host that says for so long in one start that it is up, and nothing of slots, does not run from one. An image on
trial may be silent because it is broken, and one that has failed is looked into from a medium: the one before it has to
stay good for the fall back, for so long since the host was silent first, in however many starts."""
_FALLS_BACK = (Doing.WAITING, Doing.REBOOTING, Doing.TRYING, Doing.FAILED)


class LeftSlots:
    """Finds them by what hosts with slots do not say, and ends what was approved for these."""

    def __init__(self, core: Core) -> None:
        self._core = core
        # Since when they say nothing, in which start now, and since when in that; a restart of the service begins anew.
        self._silent: dict[str, tuple[datetime, str, datetime]] = {}

    def spoke(self, host: str) -> None:
        """The host has said what is in its slots."""
        self._silent.pop(host, None)

    def silent(self, message: Message, now: datetime, news: News) -> None:
        """The host has said that it is up, and nothing of slots. Raises as `news` does."""
        host, known = message.host, self._core.store.slots.of(message.host)
        if known is None:
            self._silent.pop(host, None)
            return
        first, run, since = self._silent.get(host, (now, message.run, now))
        # A clock that went back counts nothing.
        first, since = (first, since) if since <= now else (now, now)
        since = since if run == message.run else now
        self._silent[host] = first, message.run, since
        limit = _SILENT_IN_UPDATE if known.report.doing in _FALLS_BACK else _SILENT
        if now - since < _SILENT or now - first < limit:
            return
        with news.of(message), self._core.act("slots-left", None, host=host, base=known.report.default_version[:16]):
            self._core.store.slots.remove(host)
        self._core.witness()
        self._silent.pop(host, None)
