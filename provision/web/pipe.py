"""The short ways of a base's own bytes from the page cache to a client, past uvicorn.

Without TLS the kernel gives them to the socket (sendfile(2)), and nothing is copied in this process. With TLS they are
read once and encrypted at once: what uvicorn and a buffer of zeros would add costs as much as the encryption.
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
_ENCRYPTED, _FOR_STRANGERS = 128 * 1024, 16 * 1024


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
    """Through the transport's TLS. What a client that never reads makes us hold stays small: see `Exchange.drain`."""

    def __init__(self, exchange: Exchange, content: PlanContent) -> None:
        self._exchange, self._content = exchange, content
        self._most = _ENCRYPTED if exchange.is_operator else _FOR_STRANGERS

    def close(self) -> None:
        """Nothing is held."""

    async def push(self, at: int, stop: int) -> int:
        """See `Pipe`."""
        begin, exchange, content = at, self._exchange, self._content
        stop = at + content.unpatched_length(at, stop)
        if stop - at < CHUNK:
            return 0
        warm = at
        while at < stop:
            await exchange.drain()
            if exchange.is_gone:
                break
            if at >= warm:
                warm = min(at + _WARM, stop)
                if not content.is_warm(at, warm - at):
                    break
            data = content.pread(at, min(self._most, warm - at))
            exchange.write(data)
            at += len(data)
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
