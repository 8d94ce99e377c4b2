"""Handshakes: bounded in seconds and in number, in places of their own, and each with the newest certificate."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from provision.net.sockets import bind_any
from provision.tls.authority import Identity
from provision.tls.context import load
from provision.web import entrance as module
from provision.web.encrypted import shake_hands
from provision.web.entrance import Entrance, by_network
from provision.web.limits import HandshakeLimits, Limits
from provision.web.servers import Servers
from tests.helpers.certificates import root, server, write_pair

LOCAL = IPv4Address("127.0.0.1")


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Who asked, and over what."""
    body = f"{scope['scheme']} {scope['client'][0]} {scope['server'][0]}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=root().pem().decode())


async def asked(address: tuple[Any, ...]) -> tuple[bytes, bytes]:
    """An answer over a new connection, and the certificate that came with it."""
    reader, writer = await asyncio.open_connection(
        address[0], address[1], ssl=client_context(), server_hostname="prov.example.test"
    )
    try:
        return await again(reader, writer), writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()


async def again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """An answer over a connection that is there."""
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    return await reader.readexactly(length)


@asynccontextmanager
async def serving(
    context: Callable[[], ssl.SSLContext | None], address: IPv4Address | IPv6Address = LOCAL
) -> AsyncIterator[tuple[Any, ...]]:
    """The address of a listener with TLS."""
    servers = Servers()
    listener = await servers.add(answer, bind_any(address, 0), Limits(authenticated=True), by_network, context)
    try:
        yield listener.sock.getsockname()
    finally:
        await servers.remove(listener)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path, server())


@pytest.mark.parametrize(
    ("bound", "reached"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")]
)
def test_the_peer_and_the_address_are_known(pair: tuple[Path, Path], bound: str, reached: str) -> None:
    context = load([pair]).context

    async def run() -> bytes:
        address = IPv6Address(bound) if ":" in bound else IPv4Address(bound)
        async with serving(lambda: context, address) as there:
            return (await asked((reached, there[1])))[0]

    scheme, client, _ = uvloop.run(run()).decode().split()
    assert (scheme, client) == ("https", reached)


def test_a_new_certificate_is_for_new_connections(tmp_path: Path) -> None:
    def make() -> tuple[Identity, ssl.SSLContext]:
        one = server()
        return one, load([write_pair(tmp_path, one)]).context

    def der(one: Identity) -> bytes:
        return one.certificate.public_bytes(Encoding.DER)

    (first, before), (second, after) = make(), make()
    present = [before]

    async def run() -> None:
        async with serving(lambda: present[0]) as there:
            reader, writer = await asyncio.open_connection(
                *there[:2], ssl=client_context(), server_hostname="prov.example.test"
            )
            old = await again(reader, writer)
            present[0] = after
            assert (await asked(there))[1] == der(second)
            assert await again(reader, writer) == old, "what was open goes on"
            assert writer.get_extra_info("ssl_object").getpeercert(binary_form=True) == der(first)
            writer.transport.abort()

    uvloop.run(run())


def test_without_a_certificate_connections_end(pair: tuple[Path, Path]) -> None:
    async def run() -> None:
        async with serving(lambda: None) as there:
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await asked(there)

    uvloop.run(run())


@contextmanager
def silent(address: tuple[Any, ...], count: int) -> Iterator[list[socket.socket]]:
    """So many connections that never begin a handshake."""
    ones = [socket.create_connection(address[:2], 10) for _ in range(count)]
    try:
        yield ones
    finally:
        for one in ones:
            one.close()


async def entrance(pair: tuple[Path, Path], limits: HandshakeLimits) -> tuple[Entrance, socket.socket]:
    context, sock = load([pair]).context, bind_any(LOCAL, 0)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"hello")

    one = Entrance(sock, lambda: context, Echo, limits)
    one.start()
    return one, sock


async def ended(ones: list[socket.socket]) -> int:
    """How many of the connections the server has ended, when as many have been as will be."""
    loop = asyncio.get_running_loop()

    async def end_of(one: socket.socket) -> None:
        one.setblocking(False)
        with suppress(OSError):
            assert await loop.sock_recv(one, 1) == b""

    done, waiting = await asyncio.wait([asyncio.create_task(end_of(one)) for one in ones], timeout=20)
    assert not waiting
    return len(done)


def test_a_handshake_has_its_time(pair: tuple[Path, Path]) -> None:
    async def run() -> None:
        one, sock = await entrance(pair, HandshakeLimits(seconds=0.3))
        with silent(sock.getsockname(), 5) as ones:
            ones[0].sendall(b"\x16\x03\x01")  # the beginning of a record, and nothing more
            ones[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert await ended(ones) == 5
        one.close()
        sock.close()

    uvloop.run(run())


def test_one_peer_has_so_many_and_its_newest_counts(pair: tuple[Path, Path]) -> None:
    async def run() -> None:
        one, sock = await entrance(pair, HandshakeLimits(seconds=3600.0, per_peer=4))
        with silent(sock.getsockname(), 12) as ones:
            assert await ended(ones[:8]) == 8
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(*sock.getsockname(), ssl=client_context(), server_hostname="prov.example.test"),
                20,
            )
            assert await reader.readexactly(5) == b"hello"
            writer.transport.abort()
            one.close()
            assert await ended(ones[8:]) == 4, "its end is everybody's"
        sock.close()

    uvloop.run(run())


def test_an_ipv6_peer_is_its_network() -> None:
    assert by_network("2001:db8::1") == by_network("2001:db8::ffff:1") != by_network("2001:db8:0:1::1")
    assert by_network("192.0.2.1") != by_network("192.0.2.2")


def test_who_is_gone_after_the_handshake_is_no_fault(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not say any more whose the connection was, and the log is not for strangers to fill."""
    gone, faults = threading.Event(), list[Any]()

    async def shake(sock: ssl.SSLSocket) -> None:
        await shake_hands(sock)
        await asyncio.to_thread(gone.wait, 20)

    def come_and_go(address: tuple[Any, ...]) -> None:
        tls = client_context().wrap_socket(socket.create_connection(address), server_hostname="prov.example.test")
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        tls.close()
        gone.set()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with serving(lambda: load([pair]).context) as address:
            await asyncio.to_thread(come_and_go, address)
            assert (await asked(address))[0].startswith(b"https ")
        gc.collect()

    monkeypatch.setattr(module, "shake_hands", shake)
    uvloop.run(main())
    assert faults == []
