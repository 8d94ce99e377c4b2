"""What all decisions stand on: a store that is as it was left, and a clock that goes on; and how an operator says so.

The audit log is the witness of both. It hears of every change of the store after that is durable and before anything
rests on it, and of the time every second.
"""

from __future__ import annotations

import time
from contextlib import suppress

from provision.api.audit import AcceptedClock, AcceptedStore
from provision.clock import Clock, HighWater
from provision.errors import Invalid, Unavailable
from provision.policy import SOUND, Ground
from provision.principal import Principal
from provision.service.acts import act
from provision.store.audit import Audit
from provision.store.store import Store

RECHECK = 600.0
"""Seconds after which a running service reads the whole store again."""

_MAX_REASON = 400


class Footing:
    """The store's and the clock's standing, over an open store and an open log. Thread-safe."""

    def __init__(self, store: Store, audit: Audit, clock: Clock) -> None:
        self._store, self._audit, self._clock = store, audit, clock
        self._high_water = HighWater(clock)
        self._said, self._checked = Ground(), time.monotonic()

    def find(self) -> None:
        """Ask the log whether the store is the newest that there was, and how late it was then."""
        known = self._audit.known
        if known is None:
            return  # nothing is decided without the log
        if known.mark is not None:
            self._high_water.raise_to(known.mark)
        with suppress(Unavailable):
            if self._store.database.judge(known):
                self.witness()
                self.note("store-authenticated")
            if self._store.database.distrust and not self._store.database.has_own_fault:
                self._audit.doubt()
        self.watch()

    @property
    def ground(self) -> Ground:
        """What a decision stands on now."""
        distrust, behind = self._store.database.distrust, self._high_water.behind()
        return Ground(distrust, behind) if distrust or behind else SOUND

    def problems(self) -> list[str]:
        """What keeps everything from being given away, in words for an operator."""
        ground, found = self.ground, []
        if ground.distrust:
            found.append(f"nothing is given away: the database {ground.distrust}; see 'provision store accept'")
        if ground.behind:
            late = self._high_water.mark.isoformat(timespec="seconds")
            found.append(f"nothing is given away: the clock was at {late} before; set it, or 'provision clock accept'")
        return found

    def watch(self) -> None:
        """Tell the log how late it is, and say in it once when store or clock are not to be relied on.

        The store is read again now and then: what is changed under a running service is not used, but is reported.
        Raises nothing: while the log cannot be written, nothing is given away. A service does this every second.
        """
        if time.monotonic() - self._checked > RECHECK:
            self._checked = time.monotonic()
            with suppress(Unavailable):
                self._store.database.recheck()
        ground = self.ground
        with suppress(Unavailable):
            if not ground.distrust:
                self.witness()
            if ground.distrust and not self._said.distrust:
                self.note("store-not-trusted", reason=f"the database {ground.distrust}")
            if ground.behind and not self._said.behind:
                late = self._high_water.mark.isoformat(timespec="seconds")
                self.note("clock-went-back", reason=f"the clock was at {late} before")
            self._said = ground

    def witness(self) -> None:
        """Tell the log that the store has changed, before anything rests on that. Raises Unavailable."""
        self._audit.witness(self._store.database.generation, self._high_water.mark)

    def accept_store(self, reason: str, principal: Principal) -> AcceptedStore:
        """Believe the database as it is now, every window closed and every link revoked; raises Invalid without a
        reason, Unavailable."""
        known, was = self._audit.known, self._store.database.distrust
        newest = max(self._store.database.generation, known.generation if known else 0)
        fields = {"reason": _reason(reason), "subject": was or None, "before": newest, "accepted": newest + 1}
        with act(self._audit, self._clock, "store-accepted", principal, [fields]):
            self._store.accept(newest)
        self.witness()
        self._said = self.ground
        hosts = len(self._store.snapshot.hosts)
        return AcceptedStore(was=was, before=newest, generation=newest + 1, hosts=hosts)

    def accept_clock(self, reason: str, principal: Principal) -> AcceptedClock:
        """Take the clock as it is, close every window and revoke every link, since nobody can say which would be good;
        raises Invalid without a reason, Unavailable."""
        was = self._high_water.mark.isoformat(timespec="seconds")
        fields = {"reason": _reason(reason), "subject": f"it was {was} before"}
        with act(self._audit, self._clock, "clock-accepted", principal, [fields]):
            if not self._store.database.distrust:
                self._store.windows.close_all()  # else 'store accept' does
                self._store.links.revoke_all()
            self._high_water.reset()
        self.witness()
        self._said = self.ground
        return AcceptedClock(was=was, now=self._high_water.mark.isoformat(timespec="seconds"))

    def note(self, event: str, **fields: str | int | None) -> None:
        """Record what became of store and clock, durably. Raises Unavailable."""
        self._audit.record({"time": self._clock(), "event": event, **fields}, durable=True)


def _reason(text: str) -> str:
    """A written reason on one line; raises Invalid when there is none."""
    words = " ".join(text.split())
    if not 3 <= len(words) <= _MAX_REASON or not words.isprintable():
        raise Invalid("reason", f"is not a line of 3 to {_MAX_REASON} characters", "say why: --reason TEXT")
    return words
