"""Hosts that were booted otherwise than from the slots on their disks, of which the server forgets what they said."""

from __future__ import annotations

from datetime import datetime, timedelta

from provision.service.alive import Message
from provision.service.core import Core
from provision.service.news import News
from provision.slots import Doing

_SILENT, _SILENT_IN_UPDATE = timedelta(minutes=10), timedelta(days=1)
"""A host that says for so long that it is up, and nothing of slots, does not run from one. An image on trial may be
silent because it is broken, and the one before it has to stay good for the fall back."""


class LeftSlots:
    """Finds them by what hosts with slots do not say, and ends what was approved for these."""

    def __init__(self, core: Core) -> None:
        self._core = core
        # In which start they say nothing, and since when; a restart of the service begins anew.
        self._silent: dict[str, tuple[str, datetime]] = {}

    def spoke(self, host: str) -> None:
        """The host has said what is in its slots."""
        self._silent.pop(host, None)

    def silent(self, message: Message, now: datetime, news: News) -> None:
        """The host has said that it is up, and nothing of slots. Raises as `news` does."""
        host, known = message.host, self._core.store.slots.of(message.host)
        if known is None:
            self._silent.pop(host, None)
            return
        run, since = self._silent.get(host, ("", now))
        if run != message.run or now < since:
            since = now
        self._silent[host] = message.run, since
        goes_on = known.report.doing in (Doing.WAITING, Doing.REBOOTING, Doing.TRYING)
        if now - since < (_SILENT_IN_UPDATE if goes_on else _SILENT):
            return
        with news.of(message), self._core.act("slots-left", None, host=host, base=known.report.default_version[:16]):
            self._core.store.slots.remove(host)
        self._core.witness()
        self._silent.pop(host, None)
