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
