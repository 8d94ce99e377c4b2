"""Where connections with TLS come in: each has its handshake behind it before there is a protocol for it.

Handshakes have places, seconds and turns of their own, so that who never ends one, or begins hundreds, takes nothing
from connections that are served, and little time from everybody else in the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Network, ip_address

from provision.places import Group
from provision.web.encrypted import Encrypted, shake_hands
from provision.web.handshakes import Handshake, Handshakes
from provision.web.limits import HandshakeLimits
from provision.web.peer import plain
from provision.web.stuck import Stuck
from provision.web.turns import Turns

_PREFIX = 64  # an IPv6 peer has all addresses of its own network (RFC 4291 section 2.5.1)
_AGAIN_SECONDS = 1.0
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger(__name__)

Context = Callable[[], ssl.SSLContext | None]
"""The context for the next handshake; None while there is none."""


def by_network(address: str) -> Group:
    """Who counts as one peer when all that is known is the address: an IPv4 address, or an IPv6 network."""
    found = ip_address(address)
    name = address if isinstance(found, IPv4Address) else str(IPv6Network((found, _PREFIX), strict=False))
    return Group(name, known=True)


class Entrance:
    """Accepts on the listening socket `sock`; `make` makes the protocol of a connection that speaks TLS."""

    def __init__(
        self,
        sock: socket.socket,
        context: Context,
        make: Callable[[], asyncio.Protocol],
        limits: HandshakeLimits | None = None,
    ) -> None:
        self._sock, self._context, self._make = sock, context, make
        self._limits = limits or HandshakeLimits()
        self._handshakes = Handshakes(self._limits.connections, self._limits.per_peer)
        self._turns = Turns(self._limits.rate, self._limits.burst)
        self._accepting: asyncio.Task[None] | None = None
        self._stuck = Stuck()

    def start(self) -> None:
        """Begin to accept."""
        self._stuck.start()
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Accept nothing more, and break handshakes off; harmless when said before."""
        self._stuck.stop()
        if self._accepting is not None:
            self._accepting.cancel()
        for one in list(self._handshakes):
            one.end()

    async def _accept(self) -> None:
        loop, scarce = asyncio.get_running_loop(), False
        while True:
            try:
                sock, peer = await loop.sock_accept(self._sock)
            except OSError as error:
                if error.errno in _SCARCE:
                    if not scarce:
                        _log.error("no connection can be accepted (%s)", error.strerror)
                    scarce = True
                    await asyncio.sleep(_AGAIN_SECONDS)
                continue
            scarce = False
            self._admit(Handshake(sock, by_network(plain(peer[0])).name), loop)

    def _admit(self, new: Handshake, loop: asyncio.AbstractEventLoop) -> None:
        fits, lost = self._handshakes.admit(new)
        if lost is not None:
            lost.end()
        if not fits:
            new.sock.close()
            return
        new.task = loop.create_task(self._secure(new))

    async def _secure(self, one: Handshake) -> None:
        handed = False
        try:
            # What ends it early is the peer's doing, or its time is over; nobody wants to hear of each.
            with contextlib.suppress(OSError):
                async with asyncio.timeout(self._limits.seconds):
                    await self._turns.take(one.peer)
                    if (context := self._context()) is None:
                        return
                    one.sock = sock = context.wrap_socket(one.sock, server_side=True, do_handshake_on_connect=False)
                    await shake_hands(sock)
                transport = Encrypted(sock, self._make(), self._stuck)
                handed = True  # to the transport, which closes it from now on
                transport.begin()
        finally:
            self._handshakes.leave(one)
            if not handed:
                one.sock.close()
