"""All connections of one listener: who is let in, who has to give way, and whose time is over."""

from __future__ import annotations

import asyncio

from provision.places import Bounds, Places, Who, by_address
from provision.web.limits import Limits
from provision.web.protocol import BoundedProtocol

_SWEEP_SECONDS = 1.0


class Gate:
    """The places of one listener and who has them."""

    def __init__(self, limits: Limits, who: Who = by_address) -> None:
        self.limits = limits
        self._places: Places[BoundedProtocol] = Places(Bounds(limits.connections, limits.per_peer), who)
        self._sweeping: asyncio.TimerHandle | None = None
        self._large: dict[int, BoundedProtocol] = {}

    def __len__(self) -> int:
        return len(self._places)

    def admit(self, new: BoundedProtocol) -> bool:
        """Let a connection in, when need be in the place of one that does not get on."""
        fits, lost = self._places.admit(new, new.loop.time())
        self._end(lost)
        if not fits:
            return False
        if self._sweeping is None:
            self._sweeping = new.loop.call_later(_SWEEP_SECONDS, self._sweep, new.loop)
        return True

    def _end(self, lost: list[BoundedProtocol]) -> None:
        for connection in lost:
            connection.transport.abort()

    def leave(self, connection: BoundedProtocol) -> None:
        """A connection has ended; harmless when it never was in."""
        self._places.leave(connection)
        self.end_large(connection)

    def admit_large(self, connection: BoundedProtocol) -> bool:
        """Let a header be longer than ORDINARY until `end_large`. Such a one takes a moment to come: when there are too
        many, the one that has been on its way for longest gives way, but none that is being answered."""
        if id(connection) not in self._large and len(self._large) >= self.limits.large:
            late = next((one for one in self._large.values() if one.is_waiting), None)
            if late is None:
                return False
            self.leave(late)
            late.transport.abort()
        self._large[id(connection)] = connection
        return True

    def end_large(self, connection: BoundedProtocol) -> None:
        """Its header takes no memory any more; harmless when it was an ordinary one."""
        self._large.pop(id(connection), None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._places):
            connection.check(now)
        self._end(self._places.refresh(now))
        self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep, loop) if self._places else None
