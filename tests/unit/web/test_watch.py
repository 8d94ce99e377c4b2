"""Secret bytes that the kernel still holds when a connection ends go to nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from provision.errors import Gone
from provision.net.sockets import bind_tcp
from provision.web.servers import Servers
from provision.web.stream import SeedResponse

CLOSED = 7
"""TCP_CLOSE, netinet/tcp.h."""

SEED = bytes(range(256)) * 256


class Given:
    """A delivery of SEED to a machine that is at its address for as long as `there` is true."""

    host = "node1"

    def __init__(self, there: bool = True) -> None:
        self.data, self.there, self.arrived, self.asked = SEED, there, False, asyncio.Event()
        self.pieces = 1000
        self.took: list[range] = []
        self.failure: Exception | None = None
        self.ended = asyncio.Event()
        self.at_end: Callable[[], None] = lambda: None

    def giving(self, sent: range) -> None:
        """Nobody counts it."""

    def first_secret(self, sent: range) -> int | None:
        return sent.start if sent else None

    def taken(self, sent: range) -> None:
        self.took.append(sent)

    def check(self) -> None:
        self.pieces -= 1
        if self.pieces < 0:
            raise Gone("node1", "its window has been closed", "anything")

    async def acknowledged(self) -> None:
        self.arrived = True
        if self.failure is not None:
            raise self.failure

    async def guard_stream(self, sock: socket.socket) -> None:
        """What comes over loopback has no MAC."""

    async def reconfirm(self) -> bool:
        self.asked.set()
        return self.there

    def end(self) -> None:
        self.at_end()
        self.ended.set()


async def asked_for(given: Given, then: Callable[[socket.socket], Any]) -> bytes | None:
    """What a client that reads nothing before the delivery has ended gets in the end; None when it is reset."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await SeedResponse(given, lambda: None)(scope, receive, send)  # type: ignore[arg-type]

    loop, servers = asyncio.get_running_loop(), Servers()
    listener = await servers.add(app, bind_tcp("lo", "127.0.0.1", 0))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.sock.getsockname())
        client.setblocking(False)
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        then(client)
        await asyncio.wait_for(given.ended.wait(), 20)
        data = b""
        try:
            while part := await asyncio.wait_for(loop.sock_recv(client, 65536), 20):
                data += part
        except ConnectionResetError:
            return None
        finally:
            await servers.remove(listener)
        return data


def test_what_a_machine_that_went_off_has_not_acknowledged_is_thrown_away() -> None:
    async def run() -> None:
        assert await asked_for(Given(there=False), lambda client: None) is None

    uvloop.run(run())


def test_an_acknowledged_header_counts_as_no_byte_of_the_seed() -> None:
    given = Given()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await SeedResponse(given, lambda: None)(scope, receive, send)  # type: ignore[arg-type]

    async def run() -> None:
        async with Servers() as servers:
            listener = await servers.add(app, bind_tcp("lo", "127.0.0.1", 0))
            reader, writer = await asyncio.open_connection(*listener.sock.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 20)).endswith(SEED)
            writer.close()

    uvloop.run(run())
    assert [number for sent in given.took for number in sent] == list(range(len(SEED)))


def test_a_failure_that_nobody_foresaw_is_no_success(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        given = Given()
        given.failure = RuntimeError("anything")
        assert await asked_for(given, lambda client: None) is None

    uvloop.run(run())
    assert "anything" not in caplog.text


@pytest.mark.parametrize("pieces", [2, 3, 1000])
def test_the_connection_is_gone_before_the_address_is_let_go(pieces: int) -> None:
    """A cut for whatever reason comes before anybody else may have the address."""
    states: list[int] = []

    async def run() -> None:
        given = Given(there=False)
        given.pieces = pieces

        def watch(client: socket.socket) -> None:
            given.at_end = lambda: states.append(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])

        assert await asked_for(given, watch) is None

    uvloop.run(run())
    assert states == [CLOSED]
