"""uvicorn's HTTP protocol with bounds: on bytes and seconds of headers, on bodies, on idling, on how many connect.

uvicorn itself has none of them: 200 MiB of headers are 300 MiB of memory, and a connection may take for ever.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from provision.places import State, is_stalled
from provision.tls.context import ServerContext
from provision.web.header import HeldHeader
from provision.web.limits import ORDINARY
from provision.web.peer import acknowledged, client_of, credentials, is_routed, unacknowledged
from provision.web.problems import origin_of_error

if TYPE_CHECKING:
    from provision.web.gate import Gate

_UNKNOWN = -1
_UNSENT = 8 * 1024  # what a transport may hold before the sender has to wait

EXCHANGE = "provision.exchange"
"""The extension of the ASGI scope under which a response finds its `Exchange`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """One request and its response on a connection; a response finds it in the ASGI scope, under EXCHANGE."""

    connection: BoundedProtocol
    cycle: Any

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent any more; uvicorn's `send` does not say so."""
        return bool(self.cycle.disconnected) or self.connection.transport.is_closing()

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection has TLS."""
        return self.connection.transport.get_extra_info("sslcontext") is not None

    def socket(self) -> socket.socket | None:
        """A second descriptor of the client's socket, or None when bytes cannot go there directly (TLS), or at all.

        Bytes may only be sent on it while the transport's own buffer is empty. It is the caller's to close; being a
        second one, it never becomes another connection's when the transport closes its own.
        """
        if self.is_encrypted or self.is_gone:
            return None
        try:
            return socket.socket(fileno=socket.dup(self.connection.transport.get_extra_info("socket").fileno()))
        except OSError:
            return None  # the transport has just closed its own

    @property
    def channels(self) -> Sequence[bytes]:
        """The channel bindings of the connection's TLS: see `ServerContext`; none without TLS."""
        context = self.connection.transport.get_extra_info("sslcontext")
        return context.channels if isinstance(context, ServerContext) else ()

    @property
    def certificate(self) -> bytes | None:
        """The certificate (DER) that the client has shown; None without."""
        shown: bytes | None = self.connection.transport.get_extra_info("certificate")
        return shown

    @property
    def is_operator(self) -> bool:
        """Whether an operator is at the other end, by the kernel's word or an application's that authenticates."""
        return self.connection.is_operator

    def begin(self) -> None:
        """Give the header to the connection now, and not with the first bytes of the body."""
        if isinstance(self.cycle.transport, HeldHeader):
            self.cycle.transport.flush()

    async def drain(self) -> None:
        """Wait until the client has taken nearly all that was sent, or has left."""
        await self.connection.flow.drain()

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes of the body without asking uvicorn to; the header must have been sent. See `Encrypted.write` for
        how long a view may not change."""
        self.connection.transport.write(data)
        self.sent(len(data))

    def sent(self, count: int) -> None:
        """Tell uvicorn that `count` bytes of the body have gone out on `socket`."""
        self.cycle.expected_content_length -= count


class _Refused(Exception):
    """Stops the parser; the answer is already written."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. On a Unix socket the client is ("uid=N", pid), by the kernel's word (SO_PEERCRED, unix(7)).

    One request at a time: what comes while one is answered is held, unread, until the answer is complete.
    """

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate, self._limits = gate, gate.limits
        self.address = ""
        self.on_lost: set[Callable[[], None]] = set()
        self._forbidden = self._is_deaf = False
        self._in_headers, self._header_bytes, self._tail = True, 0, b""
        self._body_bytes, self._body_left, self._trailing = 0, _UNKNOWN, _UNKNOWN
        self._held = b""
        self._since = self._asked = self.loop.time()
        self._queued = (0, 0)
        self._watched: tuple[float, int] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is us who wait: for headers, or for another request."""
        return self._in_headers and (self.cycle is None or self.cycle.response_complete)

    @property
    def _is_answering(self) -> bool:
        """Whether a whole request has come, and its answer is not complete."""
        return self._in_headers and not self.is_waiting

    def state(self, now: float) -> tuple[State, float]:
        """See `places.Holder`. A bounded body belongs to asking; one without bounds is what the peer is here for."""
        if self.is_waiting:
            return State.WAITING, now - self._since
        if not self._in_headers and self._limits.body_seconds is not None:
            return State.WAITING, now - self._asked
        taken, watched = self._progress(now)
        stalled = is_stalled(now - self._since, taken, watched if any(self._queued) else 0.0)
        return (State.STALLED if stalled else State.MOVING), now - self._since

    def pace(self, now: float) -> float:
        """See `places.Holder`."""
        taken, watched = self._progress(now)
        return taken / watched if watched else float("inf")

    def _progress(self, now: float) -> tuple[int, float]:
        """Bytes that the peer has taken since it is watched, and for how many seconds that is."""
        taken = acknowledged(self.transport)
        if self._watched is None or taken is None:
            return 0, 0.0
        return taken - self._watched[1], now - self._watched[0]

    @property
    def is_operator(self) -> bool:
        """See `Exchange.is_operator`."""
        return not self._limits.strangers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            pid, uid, gids = credentials(sock)
            allowed = self._limits.operators
            self._forbidden = allowed is not None and uid not in allowed.uids and allowed.gid not in gids
            self.client = f"uid={uid}", pid
        elif sock is not None and self.client:
            self.client = client_of(sock, self.client)
        self.address = self.client[0] if self.client else ""
        if self._limits.strangers:
            transport.set_write_buffer_limits(high=_UNSENT)
        # Of a connection that was reset already, the kernel does not say whose it was.
        gone = sock is not None and not self.client
        if gone or (sock is not None and is_routed(sock)) or not self._gate.admit(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.leave(self)
        super().connection_lost(exc)
        self._held = b""
        for wake in tuple(self.on_lost):
            wake()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._is_deaf or self.transport.is_closing():
            return
        if self._held or self._is_answering:
            self._hold(data)
            return
        if self.is_waiting and self._header_bytes == 0:
            self._since = self.loop.time()
        view = memoryview(data)
        try:
            while view and not self.transport.is_closing():
                if self._is_answering:
                    self._hold(view)
                    return
                view = view[self._feed(view) :]
        except httptools.HttpParserUpgrade:
            self._deafen()  # there are no other protocols here; the request itself has been taken
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, _Refused):
                self._refuse(400, "the request is not HTTP")

    def _hold(self, data: bytes | memoryview) -> None:
        self._held += data
        if self._limits.body is not None and len(self._held) > self._limits.ahead:
            self._deafen()
        else:
            self.flow.pause_reading()

    def _deafen(self) -> None:
        """Answer what has been asked, then close: nothing more is read."""
        self._is_deaf, self._held = True, b""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._since, self._watched = self.loop.time(), None
        self._gate.end_large(self)
        if self._held:
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        data, self._held = self._held, b""
        if data:
            self.data_received(data)

    def _feed(self, view: memoryview) -> int:
        """Give the parser what belongs to the present request only, and no more than it may have of header and body."""
        if self._in_headers:
            part = view[: self._limits.header - self._header_bytes]
            part = part[: self._to_blank_line(bytes(part))]
            self._header_bytes += len(part)
            if self._header_bytes > ORDINARY and not self._gate.admit_large(self):
                self._refuse(503, "too many requests have a header this long; ask again")
                return len(part)
            self.parser.feed_data(part)
            if self._in_headers and self._header_bytes >= self._limits.header:
                self._refuse(431, "the header is too long")
            return len(part)
        if not self._body_left:
            self._deafen()  # the parser sees another end than we do
            return len(view)
        part = view if self._body_left == _UNKNOWN else view[: self._body_left]
        self._body_bytes += len(part)
        limit = self._limits.body
        if limit is not None and self._body_bytes > limit + self._limits.header:
            self._refuse(413, "the body is too long")
            return len(part)
        if not self.is_waiting:
            self._since = self.loop.time()
        if self._body_left != _UNKNOWN:
            self._body_left -= len(part)
        if self._trailing != _UNKNOWN:
            self._trailing += len(part)
        self.parser.feed_data(part)
        if self._trailing > self._limits.header and not self._in_headers:
            self._refuse(431, "the trailer is too long")
        return len(part)

    def _to_blank_line(self, part: bytes) -> int:
        """How many bytes of `part` belong to the header: up to its blank line, or all."""
        both = self._tail + part
        found = both.find(b"\r\n\r\n")
        before, self._tail = len(self._tail), both[-3:]
        if found < 0:
            return len(part)
        self._tail = b""
        return found + 4 - before

    def on_message_begin(self) -> None:
        if self._is_deaf or self._is_answering:
            self._deafen()
            raise _Refused
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:
            return  # a trailer (RFC 9110 section 6.5); the application has the list of the headers already
        if len(self.headers) >= self._limits.fields:
            self._stop(431, "the header has too many fields")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers, self._body_bytes, self._body_left = False, 0, _UNKNOWN
        self._asked = self.loop.time()
        if self._forbidden:
            self._stop(403, "your user may not use this socket")
        limit, chunked = self._limits.body, False
        for name, value in self.headers:
            if name == b"content-length":
                if limit is not None and _too_long(value, limit):
                    self._stop(413, "the body is too long")
                self._body_left = int(value[:20]) if value.isdigit() else _UNKNOWN
            chunked = chunked or name == b"transfer-encoding"
        super().on_headers_complete()
        if chunked:
            # Where such a body ends only the parser knows, and it goes on to what follows.
            self._body_left, self.cycle.keep_alive = _UNKNOWN, False

    def on_chunk_header(self) -> None:
        """A chunk begins, or the trailer."""
        self._trailing = 0

    def on_body(self, body: bytes) -> None:
        self._trailing = _UNKNOWN
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._trailing != _UNKNOWN:
            self._is_deaf = True
        self._in_headers, self._header_bytes, self._tail, self._trailing = True, 0, b"", _UNKNOWN
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.transport = header = HeldHeader(cycle, self.transport)
        cycle.scope["extensions"] = extensions = {EXCHANGE: Exchange(self, cycle)}

        async def bounded(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
                # When the client has left, uvicorn must not log the answer as incomplete.
                cycle.disconnected = cycle.disconnected or self.transport.is_closing()
            except asyncio.CancelledError:
                cycle.disconnected = True  # the server ends, and its patience with this answer too
                self.transport.abort()
            except Exception as error:
                # uvicorn would print a traceback, whose lines may hold anything.
                if not isinstance(error, ConnectionAbortedError):
                    _log.error(
                        "internal error (%s at %s) while answering", type(error).__name__, origin_of_error(error)
                    )
                if cycle.response_started:
                    cycle.disconnected = True
                    self.transport.abort()
                else:
                    await cycle.send_500_response()
            finally:
                # What refers to itself waits for Python's collector of cycles, which is in no hurry.
                extensions.clear()
                header.flush()
                cycle.transport = self.transport

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
        seconds, late = self._limits.body_seconds, False
        if self.is_waiting:
            started = self._header_bytes > 0 or self.cycle is None
            late = started and now - self._since > self._limits.header_seconds
            late = late or (self.transport.is_closing() and self._is_stalled(now))
        else:
            late = not self._in_headers and seconds is not None and now - self._asked > seconds
            late = late or self._is_stalled(now)
            taken = acknowledged(self.transport) if self._watched is None else None
            if taken is not None:
                self._watched = now, taken
        if late:
            self._gate.leave(self)
            self.transport.abort()

    def _is_stalled(self, now: float) -> bool:
        """Whether bytes have waited for the peer, or for the rest of its body, too long without any progress."""
        queued = self.transport.get_write_buffer_size(), unacknowledged(self.transport)
        expecting = not self._in_headers and not any(queued) and not self.flow.read_paused
        if queued != self._queued or not (any(queued) or expecting):
            self._queued, self._since = queued, now
        return now - self._since > self._limits.stall


def _too_long(value: bytes, limit: int) -> bool:
    return not value.isdigit() or int(value[:20]) > limit
