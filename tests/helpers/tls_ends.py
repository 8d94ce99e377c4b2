"""Both ends of a connection with TLS: our transport, whose protocol notes what it is told, and a client."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from provision.web.encrypted import Encrypted, shake_hands
from tests.helpers.certificates import root

_RECORD = 16 * 1024


class Protocol(asyncio.Protocol):
    """Notes what it is told; `wait` waits until that is so."""

    def __init__(self) -> None:
        self.received, self.calls = bytearray(), list[str]()
        self.lost: Exception | None = None
        self._told = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._told.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("made")

    def data_received(self, data: bytes) -> None:
        assert len(data) <= _RECORD
        self.received += data
        self._told.set()

    def eof_received(self) -> None:
        self._note("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self.writable.set()
        self._note("lost")

    def pause_writing(self) -> None:
        self.writable.clear()
        self._note("pause")

    def resume_writing(self) -> None:
        self.writable.set()
        self._note("resume")

    async def wait(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                self._told.clear()
                await self._told.wait()

    async def wait_for(self, call: str) -> None:
        await self.wait(lambda: call in self.calls)


@dataclass
class Ends:
    """Both ends of a connection: `client` blocks, so it is used in threads."""

    transport: Encrypted
    protocol: Any
    client: ssl.SSLSocket
    context: ssl.SSLContext
    ours: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.ours = self.transport.get_extra_info("socket")

    def read(self, count: int) -> bytes:
        """So many bytes, or what there is up to the end that TLS says."""
        data = bytearray()
        while len(data) < count and (part := self.client.recv(min(65536, count - len(data)))):
            data += part
        return bytes(data)


def unshaken(context: ssl.SSLContext, small: bool = False) -> tuple[ssl.SSLSocket, socket.socket]:
    """A connection before its handshake: the server's end, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        plain = socket.socket()
        plain.settimeout(20)
        if small:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        plain.connect(listening.getsockname())
        accepted, _ = listening.accept()
    if small:
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    accepted.setblocking(False)
    return context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False), plain


@asynccontextmanager
async def connected(
    context: ssl.SSLContext, protocol: Protocol, small: bool = False, trusting: ssl.SSLContext | None = None
) -> AsyncIterator[Ends]:
    """A connection; `small` if the kernel is to hold little of what is sent."""
    ours, plain = unshaken(context, small)
    trusting = trusting or ssl.create_default_context(cadata=root().pem().decode())
    client, _ = await asyncio.gather(
        asyncio.to_thread(trusting.wrap_socket, plain, server_hostname="prov.example.test", suppress_ragged_eofs=False),
        shake_hands(ours),
    )
    transport = Encrypted(ours, protocol)
    transport.begin()
    try:
        yield Ends(transport, protocol, client, context)
    finally:
        client.close()
        transport.abort()
        await protocol.wait_for("lost")
        await asyncio.sleep(0)
        assert ours.fileno() == -1 and not transport.get_write_buffer_size()
        assert protocol.calls.count("lost") == 1
