"""The short ways of a base's own bytes from the page cache to a client, past uvicorn.

Without TLS the kernel gives them to the socket (sendfile(2)), and nothing is copied in this process. With TLS they are
read into one buffer and encrypted from there: see `Encrypted`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from provision.media.content import PlanContent
from provision.web.protocol import Exchange

CHUNK = 256 * 1024
"""Bytes read and sent at a time: large enough to hide Python, small enough for the processor's cache. Fewer of a base's
own bytes than these go no short way."""

_WARM = 1024 * 1024  # bytes that are looked for in the page cache at a time
_FOR_STRANGERS = 16 * 1024


class Pipe(Protocol):
    """A short way to one client."""

    async def push(self, at: int, stop: int) -> int:
        """Send what can go the short way from `at` on, and return how much that was: up to a patch or a cold page.

        Raises Unavailable when the base is not what it was.
        """

    def close(self) -> None:
        """Give back what it holds."""


def opened(exchange: Exchange, content: PlanContent) -> Pipe | None:
    """A pipe, or None when the connection has no short way."""
    if exchange.is_gone:
        return None
    if exchange.is_encrypted:
        return _Encrypted(exchange, content)
    sock = exchange.socket()
    return None if sock is None else _Plain(exchange, content, sock)


class _Encrypted:
    """Through the transport's TLS, from a buffer that is read into anew when all of it has gone."""

    def __init__(self, exchange: Exchange, content: PlanContent) -> None:
        self._exchange, self._content = exchange, content
        # What a client that never reads makes us hold stays small.
        self._buffer = memoryview(bytearray(CHUNK if exchange.is_operator else _FOR_STRANGERS))
        self._transport = exchange.connection.transport
        self._low, self._high = self._transport.get_write_buffer_limits()
        self._transport.set_write_buffer_limits(high=0)

    def close(self) -> None:
        """Leave the transport as it was."""
        self._transport.set_write_buffer_limits(self._high, self._low)

    async def push(self, at: int, stop: int) -> int:
        """See `Pipe`."""
        begin, exchange = at, self._exchange
        stop = at + self._content.unpatched_length(at, stop)
        if stop - at < CHUNK:
            return 0
        while at < stop:
            await exchange.drain()
            if exchange.is_gone:
                break
            count = self._content.base_now(self._buffer[: stop - at], at)
            if not count:
                break
            exchange.write(self._buffer[:count])
            at += count
            await asyncio.sleep(0)  # it was as much as a transport sends in one turn
        return at - begin


class _Plain:
    """Past the transport, on a second descriptor of its socket."""

    def __init__(self, exchange: Exchange, content: PlanContent, sock: socket.socket) -> None:
        self._exchange, self._content, self._sock = exchange, content, sock
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Close the second descriptor."""
        self._sock.close()

    async def push(self, at: int, stop: int) -> int:
        """See `Pipe`."""
        begin, transport = at, self._exchange.connection.transport
        stop = at + self._content.unpatched_length(at, stop)
        if stop - at < CHUNK:
            return 0
        while transport.get_write_buffer_size() and not self._exchange.is_gone:
            await self._writable()
        warm = at
        while at < stop and not self._exchange.is_gone:
            if at >= warm:
                warm = min(at + _WARM, stop)
                if not self._content.is_warm(at, warm - at):
                    break
            try:
                sent = self._content.send_now(self._sock, at, warm - at)
            except BlockingIOError:
                await self._writable()
                continue
            except OSError:
                transport.abort()  # the client has gone
                break
            if not sent:
                break  # the file has ended; reading it will say so
            at += sent
        self._exchange.sent(at - begin)
        return at - begin

    async def _writable(self) -> None:
        """Wait until the socket takes bytes, or the connection has ended."""
        future = self._loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        lost = self._exchange.connection.on_lost
        lost.add(wake)
        self._loop.add_writer(self._sock.fileno(), wake)
        try:
            await future
        finally:
            self._loop.remove_writer(self._sock.fileno())
            lost.discard(wake)
