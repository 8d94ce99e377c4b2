"""One running transfer: the state machine of `transfer` on a socket of its own, fed from a content.

The socket is connected, so the kernel itself drops what does not come from the client's address and port.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from provision.errors import Denied, Gone, NotFound, ProvisionError
from provision.media.content import Content
from provision.tftp import packet
from provision.tftp.packet import Code, Op, Terms, TftpError
from provision.tftp.transfer import NOTHING, Transfer

READ_BYTES = 64 * 1024
"""How much of the content is held in memory for one transfer."""

_BURST = 64
_REPEAT_SECONDS = 0.5
_ABSENT_SECONDS, _ABSENT_PAUSE = 15.0, 0.1
"""How long a client that does not say that it is there is asked again, and the pause before each further question.

GRUB 2.12 opens all files first, and reads them when the kernel asks for them. The kernel unpacks itself before it asks:
on a slow machine nobody answers for seconds.
"""
_log = logging.getLogger(__name__)


class SecretDelivery(Protocol):
    """The way of secret content to its machine, as `service.delivery.Delivery` is one."""

    def guard(self, sock: socket.socket) -> None:
        """Let the transfer's socket hear one machine alone. Raises OSError."""

    def check(self) -> None:
        """Raise a ProvisionError when nothing may be sent any more."""

    async def acknowledged(self) -> None:
        """The client has confirmed a byte; may raise a ProvisionError."""

    async def reconfirm(self) -> bool:
        """Whether the client is still there to be sent something again."""

    def taken(self, sent: range) -> None:
        """The client has, or may have, these bytes."""

    def end(self) -> None:
        """Nothing more will be sent."""


@dataclass(frozen=True)
class Answer:
    """What a handler gives: the content, and whom to tell how many bytes the client has (at most once per 64 KiB).
    Secret content has a `delivery`."""

    content: Content
    progress: Callable[[int], None] | None = None
    delivery: SecretDelivery | None = None

    def close(self) -> None:
        """Give back what a transfer that never begins does not need."""
        self.content.close()
        if self.delivery is not None:
            self.delivery.end()


class Session:
    """A transfer on `sock` (connected, non-blocking). `on_end` is called once, when nothing is left of it."""

    def __init__(
        self, sock: socket.socket, answer: Answer, terms: Terms, name: str, on_end: Callable[[], None]
    ) -> None:
        self.transfer = Transfer(answer.content.size, terms)
        self.name = name
        self._answer, self._content, self._on_end = answer, answer.content, on_end
        self._sock, self._block = sock, terms.block
        self._recv, self._send = sock.recv, sock.send
        self._loop = asyncio.get_running_loop()
        self._chunk, self._chunk_start = b"", 0
        self._next, self._until = NOTHING
        self._reading: asyncio.Task[None] | None = None
        self._size = answer.content.size
        self._delivery, self._confirmed = answer.delivery, answer.delivery is None
        self._asking: asyncio.Task[None] | None = None
        self._charging: asyncio.Task[None] | None = None
        self._repeated = -_REPEAT_SECONDS
        self._blocked = self._ended = False
        self._deadline = 0.0
        self._progressed = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send the first packet and listen."""
        self._loop.add_reader(self._sock.fileno(), self._readable)
        self._progressed = self._loop.time()
        self._deadline = self._progressed + self.transfer.wait
        self._timer = self._loop.call_at(self._deadline, self._tick)
        self._next, self._until = self.transfer.start()
        self._push()

    def quiet(self, now: float) -> float:
        """For how many seconds the client has acknowledged nothing new; 0 while it is us who read."""
        return now - self._progressed if self._reading is None and self._charging is None else 0.0

    @property
    def _waits(self) -> bool:
        """Whether nothing may be sent before something else is known."""
        return self._asking is not None or self._charging is not None

    def repeat(self) -> None:
        """The client sent its request again: its first answer was lost."""
        if self._delivery is None:
            self._next, self._until = self.transfer.start()
            self._push()
        elif not self._waits and self._loop.time() - self._repeated >= _REPEAT_SECONDS:
            # Its time goes on: anybody can send a copy of the request, as often as he likes.
            self._repeated = self._loop.time()
            self._ask(*self.transfer.start(), extend=False)

    def end(self, error: tuple[Code, str] | None = None) -> None:
        """Stop, telling the client why when it is to know; harmless when ended already."""
        if self._ended:
            return
        self._ended = True
        if error is not None:
            self._try_send(packet.error(*error))
        descriptor = self._sock.fileno()
        self._loop.remove_reader(descriptor)
        if self._blocked:
            self._loop.remove_writer(descriptor)
        if self._timer is not None:
            self._timer.cancel()
        self._sock.close()
        if self._reading is None:
            self._content.close()
        if self._asking is not None:
            self._asking.cancel()
        if self._delivery is not None:
            self._delivery.taken(range(min(self.transfer.delivered, self._size)))
            self._delivery.end()
        self._chunk = b""
        self._on_end()

    def _try_send(self, data: bytes) -> bool:
        try:
            self._send(data)
        except BlockingIOError:
            return False
        except OSError as error:
            if not self._ended:
                _log.debug("tftp: %s: the client is gone (%s)", self.name, error.strerror)
                self.end()
        return True

    def _readable(self) -> None:
        for _ in range(_BURST):
            try:
                data = self._recv(1024)
            except BlockingIOError:
                return
            except OSError as error:
                _log.debug("tftp: %s: the client is gone (%s)", self.name, error.strerror)
                self.end()
                return
            if len(data) < 4 or data[0] != 0:
                continue
            if data[1] == Op.ACK:
                self._ack((data[2] << 8) | data[3])
            elif data[1] == Op.ERROR:
                self.end()  # firmware asks for the size only, and then aborts like this
            else:
                self.end((Code.ILLEGAL, "only acknowledgments are expected here"))
            if self._ended:
                return

    def _ack(self, number: int) -> None:
        transfer = self.transfer
        first, last = transfer.ack(number)
        if not self._confirmed and (transfer.acknowledged or transfer.finished):
            self._confirmed = True
            self._charging = self._loop.create_task(self._charge())
            self._charging.add_done_callback(self._charged)
        if first <= last:
            if transfer.answered:
                self._progressed = self._loop.time()
            self._deadline = self._loop.time() + transfer.wait
            self._next, self._until = first, last
            self._push()
        elif transfer.finished and not self._waits:
            self._finish()

    def _finish(self) -> None:
        if self._answer.progress is not None:
            self._answer.progress(self._content.size)
        self.end()

    def _ask(self, first: int, last: int, *, extend: bool) -> None:
        """Send these blocks again when the client has been found to be there."""

        def asked(step: asyncio.Task[None]) -> None:
            self._asking = None
            self._waited(step, extend=extend)

        self._asking = self._loop.create_task(self._again(first, last))
        self._asking.add_done_callback(asked)

    def _charged(self, step: asyncio.Task[None]) -> None:
        self._charging = None
        self._waited(step, extend=True)

    def _waited(self, step: asyncio.Task[None], *, extend: bool) -> None:
        failure = None if step.cancelled() else step.exception()
        if isinstance(failure, ProvisionError):
            self._refuse(failure)
        elif failure is not None:
            _log.error("tftp: internal error (%s) for %s", type(failure).__name__, self.name)
            self.end((Code.UNDEFINED, "internal error"))
        if self._ended or self._waits:
            return
        if extend:
            self._deadline = self._loop.time() + self.transfer.wait
        if self.transfer.finished:
            self._finish()
        else:
            self._push()

    async def _charge(self) -> None:
        """The first secret byte has arrived. It is charged however the transfer ends."""
        if self._delivery is not None:
            await self._delivery.acknowledged()

    def _refuse(self, failure: ProvisionError) -> None:
        known = told(failure)
        self.end((known.code, known.message))

    def _tick(self) -> None:
        now = self._loop.time()
        if now >= self._deadline and self._reading is None and not self._waits:
            blocks = self.transfer.timeout()
            if self.transfer.failed:
                _log.debug("tftp: %s: the client stopped answering", self.name)
                self.end()
                return
            self._deadline = now + self.transfer.wait
            if self._delivery is None:
                self._next, self._until = blocks
                self._push()
            else:
                self._ask(*blocks, extend=True)
        if not self._ended:
            self._timer = self._loop.call_at(max(self._deadline, now + 0.05), self._tick)

    async def _again(self, first: int, last: int) -> None:
        """What was not acknowledged goes out once more, when the client is still there."""
        before = self.transfer.answered, self.transfer.acknowledged
        if self._delivery is not None and not await self._is_there(self._delivery):
            _log.info("tftp: %s: the client is no longer there", self.name)
            self.end()
        elif (self.transfer.answered, self.transfer.acknowledged) == before:
            self._next, self._until = first, last

    async def _is_there(self, delivery: SecretDelivery) -> bool:
        """Whether the client says in time that it is there; until then nothing is sent. Raises what `check` raises."""
        end = self._loop.time() + _ABSENT_SECONDS
        while not await delivery.reconfirm():
            delivery.check()
            if self._loop.time() >= end:
                return False
            await asyncio.sleep(_ABSENT_PAUSE)
        return True

    def _push(self) -> None:
        """Send the blocks from `_next` to `_until`, until the socket is full or a block has to be read from disk."""
        if self._blocked or self._reading is not None or self._waits:
            return
        if self._delivery is not None:
            try:
                self._delivery.check()
            except ProvisionError as failure:
                self._refuse(failure)
                return
        while self._next <= self._until and not self._ended:
            data = self._data(self._next)
            if data is None:
                self._reading = self._loop.create_task(self._read((self._next - 1) * self._block))
                return
            if not self._try_send(data):
                self._blocked = True
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            self._next += 1

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._blocked = False
        self._push()

    def _data(self, number: int) -> bytes | None:
        """The packet of a block, from memory; None when its bytes must be read first."""
        if number == 0:
            return packet.oack(self.transfer.terms.acknowledged)
        start = (number - 1) * self._block
        at = start - self._chunk_start
        end = min(at + self._block, self._content.size - self._chunk_start)
        if at < 0 or end > len(self._chunk):
            if not self._load(start):
                return None
            at, end = 0, min(self._block, self._content.size - start)
        return b"\0\3" + (number & 0xFFFF).to_bytes(2) + self._chunk[at:end]

    def _load(self, start: int) -> bool:
        wanted = min(max(READ_BYTES, self._block), self._content.size - start)
        chunk = self._content.read_now(start, wanted) if wanted else b""
        if chunk is None or (len(chunk) < wanted and len(chunk) < self._block):
            return False
        self._keep(start, chunk)
        return True

    def _keep(self, start: int, chunk: bytes) -> None:
        self._chunk, self._chunk_start = chunk, start
        if self._answer.progress is not None and self.transfer.answered:
            self._answer.progress(self.transfer.acknowledged)

    async def _read(self, start: int) -> None:
        wanted = min(max(READ_BYTES, self._block), self._content.size - start)
        error: ProvisionError | None = None
        chunk = b""
        try:
            chunk = await asyncio.to_thread(self._content.read, start, wanted)
        except ProvisionError as failure:
            error = failure
        self._reading = None
        if self._ended:
            self._content.close()
        elif error is not None:
            self._refuse(error)
        else:
            self._keep(start, chunk)
            self._deadline = self._loop.time() + self.transfer.wait
            self._push()


def told(error: Exception) -> TftpError:
    """What the client is told of an error; a console shows it."""
    if isinstance(error, TftpError):
        return error
    if isinstance(error, NotFound):
        return TftpError(Code.NOT_FOUND, "file not found")
    if isinstance(error, Denied | Gone):
        return TftpError(Code.ACCESS, error.fact)
    _log.error("tftp: %s", error)
    return TftpError(Code.UNDEFINED, "the server has a problem; see its log")
