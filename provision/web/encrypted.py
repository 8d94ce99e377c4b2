"""A connection with TLS as an asyncio transport, whose encryption writes to the socket itself.

asyncio and uvloop encrypt into memory, copy that and give the copy to the kernel. Here each record goes to the socket
as it is made, so bytes cost as much of the processor as in other servers. OpenSSL writes all that it is given, as far
as the socket takes it, and says so when the last byte is written. So it is given a piece at a time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

from provision.web.stuck import Stuck

_RECORD = 16 * 1024
"""The most that a record has (RFC 8446 section 5.1): who asks for as much never leaves a part of one in OpenSSL, which
the loop would not hear of."""

_PIECE = 64 * 1024
"""Bytes that OpenSSL is given at once: what is sent is counted by them. A piece that the socket had no room for is
given again as it was, as OpenSSL wants it."""

_TURN = 256 * 1024
"""Bytes that a connection sends or takes before others have their turn; the last piece may be above it."""

_HIGH = 64 * 1024
_FAREWELL_SECONDS = 5.0


async def shake_hands(sock: ssl.SSLSocket) -> None:
    """The handshake, which waits for the peer but keeps nobody else waiting. Raises OSError (ssl.SSLError among
    them)."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return sock.do_handshake()
        except ssl.SSLWantReadError:
            await _until(loop.add_reader, loop.remove_reader, sock.fileno())
        except ssl.SSLWantWriteError:
            await _until(loop.add_writer, loop.remove_writer, sock.fileno())


async def _until(add: Callable[..., None], remove: Callable[[int], object], descriptor: int) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


class Encrypted(asyncio.Transport):
    """The transport of `sock`, whose handshake is done, and which is closed with it.

    What is given to `write` is kept, not copied: it may not change before `get_write_buffer_size` is 0. There is no
    half-closed connection: when the peer has said its last, so have we. Renegotiation is off (see `tls/context.py`),
    so that sending never has to wait for the peer's bytes, nor reading for the room to send.
    """

    def __init__(self, sock: ssl.SSLSocket, protocol: asyncio.Protocol, stuck: Stuck | None = None) -> None:
        super().__init__(
            {"socket": sock, "sslcontext": sock.context, "certificate": sock.getpeercert(binary_form=True)}
        )
        self._sock, self._descriptor, self._protocol = sock, sock.fileno(), protocol
        self._loop, self._stuck = asyncio.get_running_loop(), stuck or Stuck()
        self._unsent: deque[memoryview] = deque()
        self._size, self._high, self._low = 0, _HIGH, _HIGH // 4
        self._left, self._turning = _TURN, False
        self._is_full = self._is_holding = False  # the socket takes nothing; the protocol is not to write
        self._reading = self._closing = self._ended = False
        self._farewell: asyncio.TimerHandle | None = None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self) -> None:
        """Tell the protocol of the connection, and read what comes."""
        self._tell(self._protocol.connection_made, self)
        self.resume_reading()

    def _tell(self, method: Callable[[Any], None], what: object) -> None:
        try:
            method(what)
        except BaseException:
            self.abort()
            raise  # the loop says what it was

    # Reading.

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        """Read to the end of what there is, or of our turn."""
        taken = 0
        while self._reading and taken < _TURN:
            self._stuck.reading = (self._sock,)
            try:
                data = self._sock.recv(_RECORD)
            except ssl.SSLWantReadError:
                return
            except OSError as error:
                self._end(error)
                return
            finally:
                self._stuck.reading = None
            if not data:
                self._protocol.eof_received()
                self.close()
                return
            self._tell(self._protocol.data_received, data)
            taken += len(data)
        if self._reading:
            # By itself: of a connection that was reset behind these bytes, uvloop tells no second time.
            self._loop.call_soon(self._read)

    # Writing.

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._size

    def can_write_eof(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not data or self._closing:
            return
        self._unsent.append(memoryview(data))
        self._size += len(data)
        if not self._is_full:
            self._send()
        if self._size > self._high and not self._is_holding:
            self._is_holding = True
            self._protocol.pause_writing()

    def _send(self) -> None:
        """Send what the socket takes, as far as our turn goes."""
        send = self._sock.send
        while self._unsent and self._left > 0:
            data, before = self._unsent.popleft(), self._size
            stop = before - self._left
            try:
                while data and self._size > stop:
                    count = send(data[:_PIECE])
                    self._size -= count
                    data = data[count:]
            except ssl.SSLWantWriteError:
                self._wait_for_room()
                break
            except OSError as error:
                self._end(error)
                return
            finally:
                self._left -= before - self._size
                if data and not self._ended:
                    self._unsent.appendleft(data)
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._next_turn)
        if self._is_holding and self._size <= self._low:
            self._is_holding = False
            self._protocol.resume_writing()

    def _next_turn(self) -> None:
        self._left, self._turning = _TURN, False
        if self._unsent and not self._is_full:
            self._send()
            self._finish()

    def _wait_for_room(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._loop.add_writer(self._descriptor, self._go_on)

    def _go_on(self) -> None:
        """The socket takes bytes again."""
        self._is_full = False
        self._loop.remove_writer(self._descriptor)
        self._send()
        self._finish()

    # Ending.

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send what was given to us, then end; when the peer hears of it, it has all of that."""
        if not self._closing:
            self.pause_reading()
            self._closing = True
            self._finish()

    def abort(self) -> None:
        """End now."""
        self._end(None)

    def _finish(self) -> None:
        """Say the last (RFC 8446 section 6.1), when it is time to, and hear the peer out for a while: a socket that is
        closed with bytes unread is reset, and the peer may lose what we have sent."""
        if not self._closing or self._unsent or self._ended or self._farewell is not None:
            return
        self._stuck.reading = (self._sock,)
        try:
            self._sock.unwrap()
        except ssl.SSLWantWriteError:
            self._wait_for_room()
        except ssl.SSLError:  # it is said, and not answered yet: nothing has come, or bytes that nobody reads any more
            self._farewell = self._loop.call_later(_FAREWELL_SECONDS, self.abort)
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._end(None)
                return
            self._loop.add_reader(self._descriptor, self._discard)
        except OSError:
            self._end(None)
        else:
            self._end(None)
        finally:
            self._stuck.reading = None

    def _discard(self) -> None:
        try:
            data = self._sock.recv(_RECORD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(None)

    def _end(self, error: OSError | None) -> None:
        if self._ended:
            return
        self._ended, self._closing, self._reading = True, True, False
        self._unsent.clear()
        self._size = 0
        if self._farewell is not None:
            self._farewell.cancel()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
