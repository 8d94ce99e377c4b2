"""Boots that begin at the same moment: one transaction for all of them, so that a site that powers on does not wait for
one after the other."""

from __future__ import annotations

import asyncio

from provision.boot import Boot
from provision.errors import NotFound
from provision.store.boots import Start
from provision.store.store import Store

GATHER_SECONDS = 0.01
"""How long the first of them waits for the others. A transaction costs as much as what ten boots write in it, and on a
busy machine requests come one by one."""

_Waiting = list[tuple[Start, asyncio.Future[Boot | None]]]


class Beginnings:
    """Begins the boots that the requests of one moment want. Not thread-safe: it has one loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: _Waiting = []
        self._writing: set[asyncio.Future[None]] = set()

    async def begin(self, start: Start) -> Boot:
        """What `Boots.begin` gives, once it is written. Raises NotFound, and Unavailable for all of one moment."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[Boot | None] = loop.create_future()
        self._waiting.append((start, begun))
        if len(self._waiting) == 1:
            loop.call_later(GATHER_SECONDS, self._write, loop)
        boot = await begun
        if boot is None:
            raise NotFound(start.host, "it has just been removed from the inventory", "power-cycle the host")
        return boot

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        if not self._store.database.is_busy:
            self._begin(waiting, None)
            return
        # Nobody else may wait for a writer.
        writing = loop.run_in_executor(None, self._begin, waiting, loop)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    def _begin(self, waiting: _Waiting, loop: asyncio.AbstractEventLoop | None) -> None:
        """Begin them, in the thread of their loop (None) or in another."""
        boots: list[Boot | None] | Exception
        try:
            boots = self._store.boots.begin_all([start for start, _ in waiting])
        except Exception as error:
            boots = error  # for all that wait
        if loop is None:
            _tell(waiting, boots)
        else:
            loop.call_soon_threadsafe(_tell, waiting, boots)


def _tell(waiting: _Waiting, boots: list[Boot | None] | Exception) -> None:
    for number, (_, begun) in enumerate(waiting):
        if begun.done():
            continue  # who asked has left
        if isinstance(boots, Exception):
            begun.set_exception(boots)
        else:
            begun.set_result(boots[number])
