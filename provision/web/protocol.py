"""uvicorn's HTTP protocol with bounds: on bytes and seconds of headers, on bodies, on idling, on how many connect.

uvicorn itself has none of them: 200 MiB of headers are 300 MiB of memory, and a connection may take for ever.
"""

from __future__ import annotations

import asyncio
import fcntl
import http
import json
import logging
import socket
import struct
import termios
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from provision.net.sources import by_loopback

_PEERCRED = struct.Struct("3i")
_SO_PEERGROUPS = 59  # socket(7)
_MAX_GROUPS = 256
_SWEEP_SECONDS = 1.0

EXCHANGE = "provision.exchange"
"""The extension of the ASGI scope under which a response finds its `Exchange`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operators:
    """Who may speak on the Unix socket: these user ids, and members of the group `gid`."""

    uids: frozenset[int]
    gid: int | None = None


@dataclass(frozen=True)
class Limits:
    """Bounds of one listener, in bytes, seconds and connections. `body` None means as much as the application reads.

    `stall` is how long a response or a request's body may make no progress. `operators` is for Unix sockets.
    """

    header: int = 16 * 1024
    header_seconds: float = 10.0
    body: int | None = 64 * 1024
    idle: int = 30
    stall: float = 60.0
    connections: int = 2048
    per_peer: int = 64
    pipelined: int = 8
    operators: Operators | None = None


class Gate:
    """All connections of one listener, oldest first: who is let in, who has to give way, and whose time is over."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[BoundedProtocol, None] = {}
        self._peers: Counter[str] = Counter()
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, new: BoundedProtocol) -> bool:
        """Let a connection in; when there are too many, the oldest that is not being answered gives way."""
        crowded = self._peers[new.peer] >= self.limits.per_peer
        if crowded or len(self._open) >= self.limits.connections:
            waiting = (c for c in self._open if c.is_waiting and (c.peer == new.peer or not crowded))
            oldest = next(waiting, None)
            if oldest is None:
                return False
            self.leave(oldest)
            oldest.transport.abort()
        self._open[new] = None
        self._peers[new.peer] += 1
        if self._sweeping is None:
            self._sweeping = new.loop.call_later(_SWEEP_SECONDS, self._sweep, new.loop)
        return True

    def leave(self, connection: BoundedProtocol) -> None:
        """A connection has ended; harmless when it never was in."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._peers[connection.peer] -= 1
        if not self._peers[connection.peer]:
            del self._peers[connection.peer]

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.check(now)
        self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep, loop) if self._open else None


class _Head:
    """Stands in for the transport until the header block is written: GRUB's HTTP client wants `Content-Length` so."""

    def __init__(self, cycle: Any, transport: asyncio.Transport) -> None:
        self._cycle, self._transport = cycle, transport

    def write(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 100"):
            self._cycle.transport = self._transport
            data = data.replace(b"\r\ncontent-length: ", b"\r\nContent-Length: ", 1)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@dataclass(frozen=True)
class Exchange:
    """One request and its response on a connection; a response finds it in the ASGI scope, under EXCHANGE."""

    connection: BoundedProtocol
    cycle: Any

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent any more; uvicorn's `send` does not say so."""
        return bool(self.cycle.disconnected) or self.connection.transport.is_closing()

    def socket(self) -> socket.socket | None:
        """A second descriptor of the client's socket, or None when bytes cannot go there directly (TLS).

        Bytes may only be sent on it while the transport's own buffer is empty. It is the caller's to close; being a
        second one, it never becomes another connection's when the transport closes its own.
        """
        transport = self.connection.transport
        if transport.get_extra_info("sslcontext") is not None:
            return None
        return socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno()))

    def sent(self, count: int) -> None:
        """Tell uvicorn that `count` bytes of the body have gone out on `socket`."""
        self.cycle.expected_content_length -= count


class _Refused(Exception):
    """Stops the parser; the answer is already written."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. On a Unix socket the client is ("uid=N", pid), by the kernel's word (SO_PEERCRED, unix(7))."""

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate, self._limits = gate, gate.limits
        self.peer = ""
        self.on_lost: set[Callable[[], None]] = set()
        self._forbidden = False
        self._in_headers, self._header_bytes, self._body_bytes = True, 0, 0
        self._since: float = self.loop.time()
        self._queued = (0, 0)

    @property
    def is_waiting(self) -> bool:
        """Whether it is us who wait: for headers, or for another request."""
        return self._in_headers and (self.cycle is None or self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            self._identify(sock)
        elif sock is not None and self.client and by_loopback(sock.fileno()):
            # A NAT rule can give a local process any address, also a host's. It is local all the same.
            self.client = ("127.0.0.1", self.client[1])
        self.peer = self.client[0] if self.client else ""
        if not self._gate.admit(self):
            transport.abort()

    def _identify(self, sock: socket.socket) -> None:
        real = socket.socket(fileno=socket.dup(sock.fileno()))
        with real:
            pid, uid, gid = _PEERCRED.unpack(real.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
            operators = self._limits.operators
            if operators is not None and uid not in operators.uids:
                self._forbidden = operators.gid not in (gid, *_groups(real))
        self.client = f"uid={uid}", pid

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.leave(self)
        super().connection_lost(exc)
        self.pipeline.clear()
        for wake in tuple(self.on_lost):
            wake()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        if self.is_waiting and self._header_bytes == 0:
            self._since = self.loop.time()
        view = memoryview(data)
        try:
            while view and not self.transport.is_closing():
                view = view[self._feed(view) :]
        except httptools.HttpParserUpgrade:
            pass  # there are no other protocols here; the request itself has been taken
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, _Refused):
                self._refuse(400, "the request is not HTTP")

    def _feed(self, view: memoryview) -> int:
        """Give the parser no more than the header may still have, so that it never buffers more than that."""
        if not self._in_headers:
            self._body_bytes += len(view)
            limit = self._limits.body
            if limit is not None and self._body_bytes > limit + self._limits.header:
                self._refuse(413, "the body is too long")
                return len(view)
            if not self.is_waiting:
                self._since = self.loop.time()
            self.parser.feed_data(view)
            return len(view)
        room = self._limits.header - self._header_bytes
        part = view[:room]
        self._header_bytes += len(part)
        self.parser.feed_data(part)
        if self._in_headers and self._header_bytes >= self._limits.header:
            self._refuse(431, "the header is too long")
        return len(part)

    def on_headers_complete(self) -> None:
        self._in_headers, self._body_bytes = False, 0
        if self._forbidden:
            self._stop(403, "your user may not use this socket")
        if len(self.pipeline) >= self._limits.pipelined:
            self._stop(429, "too many requests at once")
        limit = self._limits.body
        if limit is not None and any(n == b"content-length" and _too_long(v, limit) for n, v in self.headers):
            self._stop(413, "the body is too long")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_headers, self._header_bytes = True, 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.transport = _Head(cycle, self.transport)
        cycle.scope["extensions"] = {EXCHANGE: Exchange(self, cycle)}

        async def bounded(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
                # A client that has left is no news, so uvicorn shall not call the answer incomplete.
                cycle.disconnected = cycle.disconnected or self.transport.is_closing()
            except asyncio.CancelledError:
                cycle.disconnected = True  # the server ends, and its patience with this answer too
                self.transport.abort()
            except Exception as error:
                # uvicorn would print a traceback, whose lines may hold anything.
                if not isinstance(error, ConnectionAbortedError):
                    _log.error("internal error (%s at %s) while answering", type(error).__name__, _place(error))
                if cycle.response_started:
                    cycle.disconnected = True
                    self.transport.abort()
                else:
                    await cycle.send_500_response()

        super()._start_asgi_task(cycle, bounded)

    def _stop(self, status: int, fact: str) -> None:
        self._refuse(status, fact)
        raise _Refused

    def _refuse(self, status: int, fact: str) -> None:
        """Answer by ourselves and close. While another answer is under way nothing may be put into it."""
        if self.cycle is None or self.cycle.response_complete:
            title = http.HTTPStatus(status).phrase
            body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": fact}).encode()
            head = f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
            head += f"Content-Length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
        self.transport.close()

    def check(self, now: float) -> None:
        """Called every second: abort when the peer has used up its time."""
        if self.is_waiting:
            started = self._header_bytes > 0 or self.cycle is None
            late = started and now - self._since > self._limits.header_seconds
            if late or (self.transport.is_closing() and self._is_stalled(now)):
                self._gate.leave(self)
                self.transport.abort()
        elif self._is_stalled(now):
            self._gate.leave(self)
            self.transport.abort()

    def _is_stalled(self, now: float) -> bool:
        """Whether bytes have waited for the peer, or for the rest of its body, too long without any progress."""
        queued = self.transport.get_write_buffer_size(), _unacknowledged(self.transport.get_extra_info("socket"))
        expecting = not self._in_headers and not any(queued) and not self.flow.read_paused
        if queued != self._queued or not (any(queued) or expecting):
            self._queued, self._since = queued, now
        return now - self._since > self._limits.stall


def _place(error: BaseException) -> str:
    """Where an error was raised, without anything that its message may hold."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else "an unknown place"


def _groups(sock: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of the process at the other end; none when it has more than 256."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _too_long(value: bytes, limit: int) -> bool:
    return not value.isdigit() or int(value[:20]) > limit


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes in the kernel's send queue that the peer has not acknowledged (SIOCOUTQ, tcp(7))."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except (OSError, AttributeError):
        return 0
