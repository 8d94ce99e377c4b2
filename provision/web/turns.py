"""Who begins next when more want to than may: peers take turns, so that one with many waits longest for its last."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """At most `rate` beginnings in a second, and `burst` at once after a pause."""

    def __init__(self, rate: float, burst: int) -> None:
        self._step, self._slack = 1.0 / rate, (burst - 1) / rate
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._due = 0.0  # when the next beginning would come if all came evenly
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, peer: str) -> None:
        """Return when it is the turn of one of `peer`'s."""
        loop = asyncio.get_running_loop()
        if not self._waiting and self._begin(loop.time()):
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(peer, deque()).append(turn)
        self._arm(loop)
        await turn

    def _begin(self, now: float) -> bool:
        """Whether there is a beginning at `now`; it is taken then."""
        if self._due - now > self._slack:
            return False
        self._due = max(self._due, now) + self._step
        return True

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None and self._waiting:
            self._timer = loop.call_at(self._due - self._slack, self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while (turn := self._pop()) is not None:
            if turn.done():
                continue  # it has given up
            if not self._begin(loop.time()):
                # A clock that is a little early.
                self._due = loop.time() + self._slack
                self._begin(loop.time())
            turn.set_result(None)
            break
        self._arm(loop)

    def _pop(self) -> asyncio.Future[None] | None:
        """The first of the peer whose turn it is; that peer is the last one now."""
        if not self._waiting:
            return None
        peer, own = next(iter(self._waiting.items()))
        del self._waiting[peer]
        turn = own.popleft()
        if own:
            self._waiting[peer] = own
        return turn
