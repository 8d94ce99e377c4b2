"""Secret bytes on one connection, from the moment they are given to it until their machine has acknowledged them.

What was written to a socket has not left, and what has left may have to be sent again. So the kernel is asked how much
was acknowledged (TCP_INFO, tcp(7); RFC 4898, tcpEStatsAppHCThruOctetsAcked): the boot is charged for the first secret
byte of that, the machine's address stays pinned up to the last, and when a byte may no longer go the connection is
reset, with all that the kernel holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

from provision.errors import Gone, ProvisionError
from provision.service.delivery import Delivery
from provision.web.peer import progress, queued, reset, reset_at_close
from provision.web.protocol import Exchange

_POLL_SECONDS = (0.001, 0.02)
_QUIET_SECONDS = 0.1
"""Without any acknowledgment for so long the machine is asked whether it is still there: it is less than the time
after which TCP sends again (RFC 6298: 1 s, Linux: 0.2 s), and a switch may have forgotten where the machine was."""

_ASK_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Watch:
    """Stands over an answer whose body begins with the byte `start`, and whose first secret byte is number `first` of
    the body; see `watched`."""

    def __init__(self, exchange: Exchange, delivery: Delivery, start: int, first: int, sock: socket.socket) -> None:
        self._exchange, self._delivery, self._start, self._first, self._sock = exchange, delivery, start, first, sock
        self._base, self._end, self._told = 0, -1, 0
        self._task: asyncio.Task[None] | None = None
        self._error: ProvisionError | None = None
        self._complete = self._kept = False
        reset_at_close(sock, True)

    def begin(self) -> None:
        """The header goes to the connection, and the body follows: what is acknowledged from here on is of the body."""
        self._exchange.begin()
        transport = self._exchange.connection.transport
        self._base = progress(self._sock)[1] + queued(self._sock) + transport.get_write_buffer_size()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def check(self) -> None:
        """Raise a ProvisionError when no further byte may go."""
        if self._error is not None:
            raise self._error
        self._delivery.check()

    async def settle(self, length: int) -> bool:
        """All `length` bytes of the body were given; wait until they are acknowledged, or will never be: which of it.

        Raises a ProvisionError when the machine may not have them.
        """
        self._end = length
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._error is not None:
            raise self._error
        if self._complete:  # else the kernel holds bytes that may go nowhere once the address is not pinned
            self._kept = True
            reset_at_close(self._sock, False)
        return self._complete

    async def close(self) -> None:
        """The answer has ended, in whatever way: what was acknowledged is charged."""
        try:
            if self._task is not None and not self._task.done():
                self._end = 0
                await asyncio.wait([self._task])
        finally:
            if self._task is not None:
                self._task.cancel()
                if not self._kept:
                    # Now and not when its other descriptors are closed: next the address may be anybody's.
                    reset(self._sock)
            self._sock.close()

    async def _follow(self) -> None:
        """Until all is acknowledged, or nobody is left to do it."""
        try:
            await self._until_acknowledged()
        except ProvisionError as error:
            self._error = error
            _log.warning("%s; the answer to it is cut off", error)
            self._cut()
        except Exception as error:
            _log.error("internal error (%s) while %s gets its seed", type(error).__name__, self._delivery.host)
            self._error = Gone(self._delivery.host, "its answer cannot be followed", "look at the server's log")
            self._cut()

    def _cut(self) -> None:
        """Reset the connection, as soon as both descriptors of its socket are closed."""
        self._exchange.connection.transport.abort()

    async def _until_acknowledged(self) -> None:
        loop = asyncio.get_running_loop()
        pause, seen, since = _POLL_SECONDS[0], -1, loop.time()
        while True:
            # A transport that waits for nothing does not hear of a reset.
            ended, acked = progress(self._sock)
            gone, acked = ended or self._exchange.is_gone, acked - self._base
            if acked > self._told:
                self._delivery.taken(range(self._start + self._told, self._start + acked))
                self._told = acked
            if acked > self._first and not self._delivery.arrived:
                await self._delivery.acknowledged()
            if gone or 0 <= self._end <= acked:
                self._complete = 0 <= self._end <= acked
                if ended:
                    self._cut()
                return
            self._delivery.check()
            if acked != seen:
                pause, seen, since = _POLL_SECONDS[0], acked, loop.time()
            elif loop.time() - since > _QUIET_SECONDS:
                since = loop.time() + _ASK_SECONDS
                if not await self._delivery.reconfirm():
                    _log.info("%s: is no longer there", self._delivery.host)
                    self._cut()
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS[1])


@contextlib.asynccontextmanager
async def watched(delivery: Delivery | None, exchange: Exchange | None, body: range) -> AsyncIterator[Watch | None]:
    """Stand over the answer that has the bytes `body` of `delivery`; None when no secret is among them.

    An answer on no connection of its own, as in a test of the application alone, is charged when it begins.
    """
    if delivery is None:
        yield None
        return
    try:
        delivery.giving(body)
        first = delivery.first_secret(body)
        if first is None:
            delivery.end()
            yield None
            return
        if exchange is None:
            await delivery.acknowledged()
            yield None
            delivery.taken(body)
            return
        sock = exchange.socket()
        if sock is None:
            raise ConnectionAbortedError("nobody is left to give it to")
        with sock:
            watch = Watch(exchange, delivery, body.start, first - body.start, sock)
            try:
                await delivery.guard_stream(sock)
                delivery.check()
                yield watch
            finally:
                await watch.close()
    finally:
        delivery.end()
