"""`provision serve`: everything in one process and one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import uvloop

from provision.errors import Unavailable
from provision.net import capabilities, interfaces
from provision.net.neighbours import Neighbours
from provision.net.pins import Helper, Pins
from provision.server.api import ApiServer
from provision.server.event_lines import EventLines
from provision.server.jobs import Job, Jobs
from provision.server.networks import Networks
from provision.server.operator import metrics_limits, operator_limits, operator_socket
from provision.server.process import forbid_core_dumps
from provision.server.webhooks import Receiver
from provision.service.core import Core
from provision.service.service import Service
from provision.settings import Settings
from provision.web.guard import Guard
from provision.web.limits import Limits
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials, by_token
from provision.web.pages import app as pages_app
from provision.web.pages.app import Front
from provision.web.pages.session import by_session
from provision.web.servers import Servers

_COLLECT_AFTER = 5000
"""Objects that are made before Python's collector of cycles looks for some to free, 700 by default. An answer makes a
few dozen, nearly none of them in a cycle."""

_SECOND, _MINUTE, _HOUR, _DAY = 1.0, 60.0, 60 * 60.0, 24 * 60 * 60.0
log = logging.getLogger("provision")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises Invalid when a network may not be served, Unavailable, Conflict."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # The URL of a receiver, which httpx would log, may have a secret in it.
    for name in ("uvicorn", "uvicorn.error", "asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).addFilter(_without_traceback)
    forbid_core_dumps()
    helper = _helper()
    service = Service.open(settings)
    if service.tickets is not None:
        service.tickets.require_library()
    # The inventory stays in memory: Python's collector of cycles need not look through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    try:
        with Jobs([*_jobs(service), *_webhooks(service)]):
            uvloop.run(_serve(service, helper))
    finally:
        service.close()
        if isinstance(helper, Helper):
            helper.close()


def _jobs(service: Service) -> list[Job]:
    """What runs by itself. Bases are read late: those who wait for a start are served first."""
    core = service.core
    return [
        Job("footing", core.footing.watch, first=0.0, every=_SECOND),
        Job("audit log", core.tick, first=_SECOND, every=_SECOND),
        Job("integrity", partial(_look_at_images, core), first=_MINUTE, every=_DAY, long=True),
        Job("boots that are stuck", service.stuck.look, first=10 * _SECOND, every=10 * _SECOND),
        Job("roll-out", service.rollouts.look, first=10 * _SECOND, every=10 * _SECOND),
        Job("events", EventLines(core).work, first=_SECOND, every=_SECOND),
        Job("what expires", service.expiries.notify, first=30 * _SECOND, every=_HOUR),
        Job("old uploads", service.images.forget_old, first=_MINUTE, every=60 * _MINUTE),
        Job("boots that were left behind", service.bmc_boots.recover, first=5 * _SECOND, every=10 * _MINUTE),
    ]


def _look_at_images(core: Core) -> None:
    """Read every base; the audit log says once of each that it is damaged."""
    for error in core.integrity.look():
        core.note("image-damaged", None, subject=error.subject, reason=error.fact)


def _webhooks(service: Service) -> Iterator[Job]:
    """What tells each receiver of events, in a thread of its own: one that is slow delays no other, and no end."""
    core = service.core
    receivers = {webhook.name: Receiver(webhook, core) for webhook in core.settings.webhook}
    service.receivers = lambda: receivers
    for name, receiver in receivers.items():
        core.cautions.append(receiver.warnings)
        yield Job(f"webhook '{name}'", receiver.work, first=_SECOND, every=_SECOND, long=True)


def _helper() -> Helper | Unavailable:
    """The process that pins neighbours, or why there is none. Afterwards this process has lost the right to do it, and
    to whatever else its two capabilities are good for; so this comes before there is a second thread."""
    try:
        helper: Helper | Unavailable = Helper.start()
    except Unavailable as error:
        helper = error
    capabilities.keep(capabilities.held() - {capabilities.NET_ADMIN, capabilities.NET_RAW})
    return helper


async def _serve(service: Service, helper: Helper | Unavailable) -> None:
    with contextlib.ExitStack() as stack, Neighbours() as neighbours:
        doors = [
            (app, stack.enter_context(operator_socket(path, limits)), limits)
            for app, path, limits in on_unix_sockets(service)
        ]
        pins = Pins(helper, neighbours) if isinstance(helper, Helper) else helper
        try:
            await _serve_with(service, doors, neighbours, pins)
        finally:
            if isinstance(pins, Pins):
                pins.close()


def on_unix_sockets(service: Service) -> Iterator[tuple[Guard, Path, Limits]]:
    """What is served on Unix sockets: to whom, where and what. Raises Invalid for a group that does not exist."""
    settings = service.core.settings
    yield operator_app.create(service, by_peer_credentials), settings.socket, operator_limits(settings)
    if settings.metrics is not None:
        yield operator_app.create_metrics(service), settings.metrics.socket, metrics_limits(settings.metrics)


async def _serve_with(
    service: Service,
    doors: Sequence[tuple[Guard, socket.socket, Limits]],
    neighbours: Neighbours,
    pins: Pins | Unavailable,
) -> None:
    async with Servers() as servers:
        for door in doors:
            await servers.add(*door)
        networks = Networks(service, servers, neighbours, pins)
        service.listeners = networks.states
        await networks.reconcile(await asyncio.to_thread(interfaces.look), strict=True)
        going = [asyncio.create_task(networks.follow()), asyncio.create_task(_watch(pins))]
        apis = apis_of(service, servers)
        service.listeners = lambda: {**networks.states(), **{k: v for api in apis for k, v in api.states().items()}}
        if apis and service.tickets is not None:
            service.core.cautions.append(service.tickets.warnings)
        for api in apis:
            service.core.cautions.append(api.warnings)
            going.append(asyncio.create_task(api.follow()))
        log.info("serving the operator's socket %s", service.core.settings.socket)
        _notify("READY=1")
        try:
            serving = asyncio.create_task(servers.serve())
            await asyncio.wait({serving, *going}, return_when=asyncio.FIRST_COMPLETED)
            for task in going:
                if task.done():
                    task.result()
        finally:
            _notify("STOPPING=1")
            service.sessions.close()  # and with them streams, which would not end by themselves
            for task in going:
                task.cancel()
            networks.close()
            if isinstance(pins, Pins):
                pins.stop()  # what is cut off now must not go elsewhere, so the addresses are let go when all is closed


def apis_of(service: Service, servers: Servers) -> list[ApiServer]:
    """The operator's application and the pages over TLS, when the settings have it, and to a proxy if they name one."""
    settings = service.core.settings
    if (api := settings.api) is None:
        return []
    operators = operator_app.create(service, by_token(service), service.tickets)
    app = Front(operators, pages_app.create(service, by_session(service)))
    proxies = [None] if api.proxy is None else [None, api.proxy]
    return [ApiServer(app, api, settings, servers, service.core.clock, proxy) for proxy in proxies]


async def _watch(pins: Pins | Unavailable) -> None:
    """Raises Unavailable when the helper process has ended: nothing secret may leave without it, and only a new start
    has the right to start another."""
    await (pins.ended if isinstance(pins, Pins) else asyncio.Event()).wait()
    raise Unavailable("neighbours", "the process that pins their addresses has ended", "start the service again")


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
