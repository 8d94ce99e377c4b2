"""The operator's socket: peer credentials instead of passwords, with or without the rest of the service."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from provision.errors import Invalid
from provision.net.sockets import bind_unix
from provision.service.service import Service
from provision.settings import Metrics, Settings
from provision.web.limits import Limits, Operators
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from provision.web.servers import Listener


def operator_limits(settings: Settings) -> Limits:
    """Who may use the operator's socket, and how; raises Invalid for a group that does not exist."""
    # Uploads and inventories are large; who may send them is known by the kernel.
    return Limits(body=None, operators=_operators("operator_group", settings.operator_group))


def metrics_limits(metrics: Metrics) -> Limits:
    """Who may use the metrics' own socket, and how; raises Invalid for a group that does not exist."""
    return Limits(body=0, operators=_operators("metrics.group", metrics.group))


def _operators(key: str, group: str | None) -> Operators:
    gid = None
    if group is not None:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise Invalid(key, f"there is no group {group}", "correct it") from None
    return Operators(frozenset({0, os.geteuid()}), gid)


@contextlib.contextmanager
def operator_socket(path: Path, limits: Limits) -> Iterator[socket.socket]:
    """A listening Unix socket, mode 0600, or 0660 for a group; gone afterwards. Raises Unavailable."""
    sock = bind_unix(path, limits.operators.gid if limits.operators else None)
    try:
        yield sock
    finally:
        sock.close()
        path.unlink(missing_ok=True)


class OperatorServer:
    """The operator's application alone, on a Unix socket: how the command line works with no service running."""

    def __init__(self, service: Service, path: Path) -> None:
        self._service, self._path = service, path
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.started = threading.Event()

    def run(self) -> None:
        """Serve until `stop`; blocks, so it belongs in a thread."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        limits = Limits(body=None, operators=Operators(frozenset({os.geteuid()})))
        with operator_socket(self._path, limits) as sock:
            listener = Listener(operator_app.create(self._service, by_peer_credentials), sock, limits)
            await listener.start()
            self.started.set()
            await self._stop.wait()
            await listener.stop()

    def stop(self) -> None:
        """End `run`, from any thread."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
