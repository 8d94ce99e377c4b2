"""Several uvicorn servers in one process and one event loop: one for each bound socket, with its own application."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import resource
import signal
import socket
from collections.abc import Iterator
from typing import Any, Self

import uvicorn
from uvicorn.server import Server

from provision.places import Who, by_address
from provision.web.entrance import Context, Entrance
from provision.web.gate import Gate
from provision.web.limits import Limits
from provision.web.peer import reset_at_close
from provision.web.protocol import BoundedProtocol

GRACE_SECONDS = 5
"""How long running answers may take after the first signal; boots ask again."""

_FILES = 65536
_log = logging.getLogger(__name__)


class _Server(Server):
    """A server that leaves signals to `Servers`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """One served socket; give it to `Servers.remove`."""

    def __init__(
        self, app: Any, sock: socket.socket, limits: Limits, who: Who = by_address, tls: Context | None = None
    ) -> None:
        self.gate = Gate(limits, who)
        self.sock = sock
        config = uvicorn.Config(
            app,
            http=functools.partial(BoundedProtocol, gate=self.gate),  # type: ignore[arg-type]
            interface="asgi3",
            ws="none",
            lifespan="off",
            access_log=False,  # it prints URLs as they are
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.idle,
            timeout_graceful_shutdown=GRACE_SECONDS,
            backlog=1024,
        )
        self.server = _Server(config)
        self.task: asyncio.Task[None] | None = None
        self._entrance = None if tls is None else Entrance(sock, tls, self._protocol)

    def _protocol(self) -> BoundedProtocol:
        """What uvicorn makes for a connection, for those that it does not accept itself."""
        server = self.server
        return BoundedProtocol(
            config=server.config, server_state=server.server_state, app_state=server.lifespan.state, gate=self.gate
        )

    async def start(self) -> None:
        """Serve; returns when the socket accepts."""
        accepted_there = [self.sock] if self._entrance is None else []
        self.task = asyncio.create_task(self.server.serve(sockets=accepted_there))
        while not self.server.started and not self.task.done():
            await asyncio.sleep(0.002)
        if self.task.done():
            await self.task
        if self._entrance is not None:
            self._entrance.start()

    def end(self) -> None:
        """Accept nothing more from now on, or very soon; what runs goes on."""
        self.server.should_exit = True
        if self._entrance is not None:
            self._entrance.close()

    async def stop(self) -> None:
        """Finish what runs within GRACE_SECONDS, then cut it off and close the socket."""
        self.end()
        if self.task is not None:
            await asyncio.wait([self.task])
        self.abort()
        self.sock.close()

    def cut(self) -> None:
        """Accept nothing more from now on, and break every connection."""
        for server in self.server.servers:
            server.close()
        self.end()
        self.abort()

    def abort(self) -> None:
        """Break every connection, and let the kernel forget what it still holds for the peer."""
        self.server.force_exit = True
        for connection in list(self.server.server_state.connections):
            sock = connection.transport.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    reset_at_close(sock, True)
            connection.transport.abort()


class Servers:
    """All listeners of the process. `async with Servers() as servers: await servers.add(...); await servers.serve()`.

    SIGTERM and SIGINT end `serve`: the first lets running answers finish, the second does not.
    """

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        return self

    async def close(self) -> None:
        """Stop every listener."""
        await asyncio.gather(*(listener.stop() for listener in self._listeners))
        self._listeners.clear()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    async def add(
        self,
        app: Any,
        sock: socket.socket,
        limits: Limits | None = None,
        who: Who = by_address,
        tls: Context | None = None,
    ) -> Listener:
        """Serve the ASGI application `app` on the listening socket `sock`, which is now ours to close. `who` says
        which peers count as one; with `tls` every connection speaks it, by the context that it then gives."""
        listener = Listener(app, sock, limits or Limits(), who, tls)
        await listener.start()
        self._listeners.append(listener)
        return listener

    async def remove(self, listener: Listener) -> None:
        """Stop serving one socket at once, as when what made it fit to be served has gone: running answers are broken
        before anything is waited for. Harmless when done before."""
        listener.cut()
        await listener.stop()
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def serve(self) -> None:
        """Wait for a signal, or for `stop`."""
        await self._stopping.wait()

    def stop(self) -> None:
        """End `serve`; called again, do not wait for running answers."""
        if self._stopping.is_set():
            _log.warning("stopping now, without waiting for running answers")
            for listener in self._listeners:
                listener.abort()
        self._stopping.set()
        for listener in self._listeners:
            listener.end()
