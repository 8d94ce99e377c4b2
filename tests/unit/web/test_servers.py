"""Listeners that come and go while others are served."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from provision.net.sockets import bind_tcp
from provision.web.servers import Servers


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """An answer that ends with its connection only."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (await receive())["type"] != "http.disconnect":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})


async def stalled(address: tuple[str, int]) -> socket.socket:
    """A client in the middle of an answer that it does not read."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, address)
    await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await loop.sock_recv(client, 1)
    return client


def test_listeners_that_must_go_are_cut_before_any_of_them_is_waited_for() -> None:
    async def run() -> None:
        servers = Servers()
        listeners = [await servers.add(endless, bind_tcp("lo", "127.0.0.1", 0)) for _ in range(3)]
        addresses = [listener.sock.getsockname() for listener in listeners]
        clients = [await stalled(address) for address in addresses]
        gone = asyncio.gather(*(servers.remove(listener) for listener in listeners[:2]))
        await asyncio.sleep(0)
        for listener, address in zip(listeners[:2], addresses[:2], strict=True):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, 5).close()
            assert all(connection.transport.is_closing() for connection in listener.server.server_state.connections)
        socket.create_connection(addresses[2], 5).close()
        await asyncio.wait_for(gone, 10)
        await servers.remove(listeners[2])
        for client in clients:
            client.close()

    uvloop.run(run())


@pytest.mark.parametrize("option", [b"\x07\x07\x04\0\0\0\0\0", b""])
def test_a_connection_with_ip_options_is_not_served(option: bytes) -> None:
    """A source route would lead the answer to another machine than the peer; any option tells of it (RFC 791)."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> bytes:
        servers, loop = Servers(), asyncio.get_running_loop()
        listener = await servers.add(answer, bind_tcp("lo", "127.0.0.1", 0))
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, option)
            try:
                await loop.sock_connect(client, listener.sock.getsockname())
                await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return await asyncio.wait_for(loop.sock_recv(client, 100), 10)
            except OSError:
                return b""
            finally:
                await servers.remove(listener)

    assert uvloop.run(run())[:12] == (b"" if option else b"HTTP/1.1 204")
