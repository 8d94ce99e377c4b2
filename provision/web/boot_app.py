"""The boot application: what firmware and boot loaders may ask of one listener. No operator's route is here."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import Response

from provision import boot_paths
from provision.boot_paths import BootIso, Initrd, Kernel, Loader, Place, PxelinuxByUuid, PxelinuxConfig, SeedFile
from provision.edge import Edge
from provision.errors import Denied, Invalid, NotFound
from provision.media.layout import FileEntry
from provision.media.plan import Plan
from provision.service.alive import Message
from provision.service.netboot import Netboot, Origin
from provision.web import problems
from provision.web.guard import Guard
from provision.web.stream import PlanResponse, SeedResponse, first_byte

_WORD = re.compile(r"[a-z0-9][a-z0-9 -]{0,62}")
_METHODS = ["GET", "HEAD"]

R = TypeVar("R")


def create(netboot: Netboot, edge: Edge) -> Guard:
    """The boot application for the listener that `edge` describes."""
    app = FastAPI(title="provision boot", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    problems.install(app)

    async def origin_of(request: Request) -> Origin:
        return await edge.origin(request.client.host if request.client else None)

    async def pxelinux_config(request: Request) -> Response:
        """The pxelinux configuration of the machine that asks; its MAC in the path is only a claim."""
        origin, asked = await origin_of(request), boot_paths.parse(Place.HTTP, request.scope["path"])
        if isinstance(asked, PxelinuxByUuid):
            await asyncio.to_thread(netboot.note_uuid, origin, asked.uuid)
        if not isinstance(asked, PxelinuxConfig):
            raise NotFound("pxelinux.cfg", "no such configuration", "pxelinux asks for 01-MAC next")
        # A change of threads costs more than the configuration, but nobody else may wait for a writer.
        busy = netboot.is_busy
        body = (
            await asyncio.to_thread(netboot.pxelinux_config, origin, asked.mac)
            if busy
            else netboot.pxelinux_config(origin, asked.mac)
        )
        return Response(body, media_type="text/plain", headers={"cache-control": "no-store"})

    async def loader(request: Request) -> Response:
        """A file of the boot loader set of the machine's base image."""
        return _file(netboot.loader(await origin_of(request), _asked(request, Loader).name))

    async def kernel(request: Request) -> Response:
        """The kernel of a base image, by the image's content hash."""
        entry = netboot.kernel(_asked(request, Kernel).base)
        return _file(entry, _noting(netboot, await origin_of(request), "kernel", entry.size))

    async def initrd(request: Request) -> Response:
        """An initrd of a base image."""
        asked = _asked(request, Initrd)
        entry = netboot.initrd(asked.base, asked.number)
        before, size = netboot.initrds_before(asked.base, asked.number)
        return _file(entry, _noting(netboot, await origin_of(request), "initrd", size, before))

    async def seed(request: Request) -> Response:
        """The seed of the running boot ("current": of a new one). GET is its first seed byte, HEAD is free."""
        origin, wanted = await origin_of(request), _asked(request, SeedFile).revision
        delivery = await edge.deliver(origin, lambda pinned: netboot.seed(pinned, wanted))
        return SeedResponse(delivery, partial(netboot.sent, origin, "seed", 1.0))

    async def http_boot(request: Request) -> Response:
        """The ISO of the machine that asks, for UEFI HTTP Boot; a small refusing ISO when policy says no."""
        origin, get = await origin_of(request), request.method == "GET"
        start = first_byte(request.headers.get("range")) if get else 0
        made = await edge.deliver(origin, lambda pinned: netboot.http_boot(pinned, start, sends=get))
        if isinstance(made, Plan):
            return PlanResponse(made, media_type="application/vnd.efi-iso")
        progress = _noting(netboot, origin, "seed", made.plan.size) if get else None
        return PlanResponse(made.plan, media_type="application/vnd.efi-iso", progress=progress, delivery=made)

    # Every booting machine asks here, and FastAPI's own handling of parameters would cost more than a configuration.
    app.add_route(f"{boot_paths.PXE}{boot_paths.PXELINUX}{{name}}", pxelinux_config, methods=_METHODS)
    serves = {Loader: loader, Kernel: kernel, Initrd: initrd, SeedFile: seed, BootIso: http_boot}
    for kind, serve in serves.items():
        app.add_route(boot_paths.route(kind), serve, methods=_METHODS)
    _host_says(app, netboot, edge)
    return Guard(app)


def _asked(request: Request, kind: type[R]) -> R:
    """What a path of this kind asks for; raises Invalid when its values cannot be."""
    asked = boot_paths.parse(Place.HTTP, request.scope["path"])
    if not isinstance(asked, kind):
        raise problems.no_such_name()
    return asked


def _host_says(app: FastAPI, netboot: Netboot, edge: Edge) -> None:
    """The routes of a host that has booted."""

    @app.post(boot_paths.UP, status_code=204)
    async def up(request: Request) -> Response:
        """The booted host says that it is up: JSON {"host": NAME, "key": HEX}, once."""
        host, key = _phone_home(await request.body())
        await asyncio.to_thread(netboot.arrivals.up, host, key, edge.channel)
        return Response(status_code=204)

    @app.post(boot_paths.ALIVE, status_code=204)
    async def alive(request: Request) -> Response:
        """The booted host says that it stays up or goes down, signed with the key from its seed."""
        await asyncio.to_thread(netboot.arrivals.alive, _message(await request.body()), edge.channel)
        return Response(status_code=204)


def _file(entry: FileEntry, progress: Callable[[int, int], None] | None = None) -> Response:
    plan = Plan(entry.path, entry.sha256, entry.size, (), entry.sha256)
    return PlanResponse(plan, media_type="application/octet-stream", progress=progress)


def _noting(netboot: Netboot, origin: Origin, part: str, size: int, before: int = 0) -> Callable[[int, int], None]:
    total = max(1, size)
    return lambda start, stop: netboot.sent(origin, part, (before + stop) / total, (before + start) / total)


def _phone_home(body: bytes) -> tuple[str, bytes]:
    try:
        said = json.loads(body)
        host, key = said["host"], bytes.fromhex(said["key"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Invalid("up", 'the body is not {"host": NAME, "key": HEX}', "see docs/media-format.md") from None
    if not isinstance(host, str):
        raise Denied("up", "the host's name is not text", "see docs/media-format.md", "phone-home")
    return host, key


def _message(body: bytes) -> Message:
    try:
        said = json.loads(body)
        host, boot, run, sequence, state = (said[name] for name in ("host", "boot", "run", "sequence", "state"))
        tag = bytes.fromhex(said["tag"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Invalid("alive", "the body is not such a message", "see docs/media-format.md") from None
    words = all(isinstance(word, str) and _WORD.fullmatch(word) for word in (host, boot, run))
    whole = isinstance(sequence, int) and not isinstance(sequence, bool) and 0 <= sequence < 2**53
    if not words or not whole or state not in ("up", "down"):
        raise Invalid("alive", "the body is not such a message", "see docs/media-format.md")
    return Message(host, boot, run, sequence, state == "up", tag)
