"""A read-only TFTP server on one bound socket, in the event loop, with content made for each request.

Written here because no library fits (looked at in 2026): tftpy 0.8.7 has a hook for dynamic files, but select() on
sockets that it binds itself, and no windowsize; fbtftp 0.5 starts a process for each transfer and knows no windowsize;
py3tftp 1.3.0 has asyncio and windowsize, but serves files only. None can bind to a device or keep to a port range.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from provision.errors import ProvisionError
from provision.net.sockets import mtu_of, sibling
from provision.places import Bounds, Places, State, Who, by_address, is_stalled
from provision.tftp import packet
from provision.tftp.packet import Code, Op, TftpError
from provision.tftp.session import Answer, Session, told

PER_PEER = 8
"""Transfers at a time of one machine; firmware needs two."""

_BURST = 32
_REPLACED_SECONDS = 1.0  # a client that has acknowledged nothing for so long has begun anew
_COMPLAIN_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TftpRequest:
    """A read request: the clean relative `path`, and who asks; `options` as the client sent them."""

    path: str
    peer: IPv4Address
    options: Mapping[str, str]


Handler = Callable[[TftpRequest], Awaitable[Answer]]
"""Makes the answer, or raises TftpError or a ProvisionError (Denied: "access violation", NotFound: "not found")."""


class _Slot:
    """A request's place: first its handler runs, then its session."""

    def __init__(self, peer: tuple[str, int], path: str, since: float) -> None:
        self.peer, self.path, self.since = peer, path, since
        self.task: asyncio.Task[None] | None = None
        self.session: Session | None = None

    @property
    def address(self) -> str:
        """See `places.Holder`."""
        return self.peer[0]

    def state(self, now: float) -> tuple[State, float]:
        """See `places.Holder`."""
        if self.session is None or not self.session.transfer.answered:
            return State.WAITING, now - self.since
        quiet = self.session.quiet(now)
        stalled = is_stalled(quiet, self.session.transfer.acknowledged, now - self.since if quiet else 0.0)
        return (State.STALLED if stalled else State.MOVING), quiet

    def pace(self, now: float) -> float:
        """See `places.Holder`."""
        taken = self.session.transfer.acknowledged if self.session is not None else 0
        return taken / max(now - self.since, 0.001)


class TftpServer:
    """Serves on `sock` (from `net.sockets.bind_udp`); transfers use the ports `first` to `last` on the same device.

    A new request of an address for the same path replaces the older one when that has been quiet for a second, and not
    before: anybody can send a request in another's name. Who gives way when there are too many, `places` says; if
    nobody does, the request is dropped, and the client asks again.
    """

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        ports: tuple[int, int] = (20000, 20255),
        per_peer: int = PER_PEER,
        who: Who = by_address,
    ) -> None:
        self._sock, self._handler = sock, handler
        self._ports = range(ports[0], ports[1] + 1)
        self._slots: dict[tuple[tuple[str, int], str], _Slot] = {}
        self._places: Places[_Slot] = Places(Bounds(len(self._ports), per_peer), who)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._complained = -_COMPLAIN_SECONDS

    @property
    def active(self) -> int:
        """Requests and transfers that are under way."""
        return len(self._slots)

    def start(self) -> None:
        """Begin to answer."""
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """End every transfer, close the socket."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        for slot in list(self._slots.values()):
            self._drop(slot, (Code.UNDEFINED, "the server stops"))
        self._sock.close()

    def _readable(self) -> None:
        for _ in range(_BURST):
            try:
                data, peer = self._sock.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("tftp: receiving failed (%s)", error.strerror)
                return
            try:
                self._request(data, peer)
            except TftpError as error:
                self._refuse(peer, error)

    def _refuse(self, peer: tuple[str, int], error: TftpError) -> None:
        try:
            self._sock.sendto(packet.error(error.code, error.message), peer)
        except OSError as failure:
            _log.debug("tftp: cannot answer %s (%s)", peer[0], failure.strerror)

    def _request(self, data: bytes, peer: tuple[str, int]) -> None:
        if len(data) < 2 or data[1] not in (Op.RRQ, Op.WRQ):
            return  # an answer to it could go back and forth between two servers for ever
        request = packet.parse_request(data)
        if request.op is Op.WRQ:
            raise TftpError(Code.ACCESS, "this server is read-only")
        if request.mode != "octet":
            raise TftpError(Code.ILLEGAL, "only mode octet (binary) is served")
        path = packet.clean_name(request.name)
        now = self._loop.time()
        older = self._slots.get((peer, path))
        if older is not None and older.state(now)[0] is State.WAITING:
            if older.session is not None:
                older.session.repeat()
            return
        for other in [s for s in self._slots.values() if s.peer[0] == peer[0] and s.path == path]:
            if is_superseded(*other.state(now)):
                self._drop(other)
        if (peer, path) in self._slots:
            return  # it gets on; this is a late copy of its request, or somebody else's in its name
        slot = _Slot(peer, path, now)
        fits, lost = self._places.admit(slot, now)
        for other in lost:
            self._drop(other)
        if not fits:
            self._complain(peer[0], now)
            return
        self._slots[peer, path] = slot
        slot.task = self._loop.create_task(self._serve(slot, request.options))

    def _complain(self, address: str, now: float) -> None:
        if now - self._complained > _COMPLAIN_SECONDS:
            self._complained = now
            _log.warning("tftp: no place is free for %s; dropping its request", address)

    def _drop(self, slot: _Slot, error: tuple[Code, str] | None = None) -> None:
        if slot.task is not None:
            slot.task.cancel()
        if slot.session is not None:
            slot.session.end(error)
        self._forget(slot)

    def _forget(self, slot: _Slot) -> None:
        self._places.leave(slot)
        if self._slots.get((slot.peer, slot.path)) is slot:
            del self._slots[slot.peer, slot.path]

    async def _serve(self, slot: _Slot, options: Mapping[str, str]) -> None:
        try:
            answer = await self._handler(TftpRequest(slot.path, IPv4Address(slot.peer[0]), options))
            try:
                sock = self._socket(slot.peer, answer)
            except BaseException:
                answer.close()
                raise
            terms = packet.negotiate(options, answer.content.size, mtu_of(self._sock))
            name = f"{slot.peer[0]} {slot.path}"
            slot.session = Session(sock, answer, terms, name, lambda: self._forget(slot))
            slot.task = None
            slot.session.start()
        except (TftpError, ProvisionError, OSError) as error:
            self._forget(slot)
            self._refuse(slot.peer, told(error))
        except Exception as error:
            _log.error("tftp: internal error (%s) for %s", type(error).__name__, slot.peer[0])
            self._forget(slot)
            self._refuse(slot.peer, TftpError(Code.UNDEFINED, "internal error"))

    def _socket(self, peer: tuple[str, int], answer: Answer) -> socket.socket:
        """A socket connected to `peer` on a free port of the range, chosen at random so that it cannot be guessed."""
        prepare = answer.delivery.guard if answer.delivery is not None else None
        for port in random.sample(self._ports, len(self._ports)):
            try:
                sock = sibling(self._sock, port, prepare)
            except OSError:
                continue
            try:
                sock.connect(peer)
            except OSError:
                sock.close()
                raise
            return sock
        raise TftpError(Code.UNDEFINED, "no port is free")


def is_superseded(state: State, quiet: float) -> bool:
    """Whether a transfer ends because its client asks for the same again."""
    return state is State.STALLED or quiet >= _REPLACED_SECONDS
