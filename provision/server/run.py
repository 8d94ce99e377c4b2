"""`provision serve`: everything in one process and one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading

import uvloop

from provision.net import interfaces
from provision.net.neighbours import Neighbours
from provision.server.networks import Networks
from provision.server.operator import operator_limits, operator_socket
from provision.server.process import forbid_core_dumps
from provision.service.service import Service
from provision.settings import Settings
from provision.web import operator_app
from provision.web.servers import Servers

log = logging.getLogger("provision")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises Invalid when a network may not be served, Unavailable, Conflict."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).addFilter(_without_traceback)
    forbid_core_dumps()
    service = Service.open(settings)
    stop = threading.Event()
    try:
        # Nothing waits for it at the end: what it has read by then it has read.
        threading.Thread(target=service.core.scrub.run, args=(stop,), name="scrub", daemon=True).start()
        uvloop.run(_serve(service))
    finally:
        stop.set()
        service.close()


async def _serve(service: Service) -> None:
    settings = service.core.settings
    limits = operator_limits(settings)
    gid = limits.operators.gid if limits.operators else None
    with operator_socket(settings.socket, gid) as sock, Neighbours() as neighbours:
        async with Servers() as servers:
            await servers.add(operator_app.create(service), sock, limits)
            networks = Networks(service, servers, neighbours)
            await networks.reconcile(await asyncio.to_thread(interfaces.look), strict=True)
            following = asyncio.create_task(networks.follow())
            log.info("serving the operator's socket %s", settings.socket)
            _notify("READY=1")
            try:
                serving = asyncio.create_task(servers.serve())
                await asyncio.wait({serving, following}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()
            finally:
                _notify("STOPPING=1")
                following.cancel()
                networks.close()


def _without_traceback(record: logging.LogRecord) -> bool:
    # A traceback's last line is an exception's message, and nobody can say what a message holds.
    record.exc_info = record.exc_text = None
    return True


def _notify(state: str) -> None:
    """Tell systemd, when it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
            contextlib.suppress(OSError),
        ):
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
