"""The boot application: what firmware and boot loaders may ask of one listener. No operator's route is here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from provision import boot_paths
from provision.boot_paths import (
    BootIso,
    EnvelopeFile,
    Initrd,
    Kernel,
    Loader,
    Place,
    PxelinuxByUuid,
    PxelinuxConfig,
    SeedFile,
    SignedSeed,
    UnifiedKernel,
)
from provision.boot_paths import Request as Asked
from provision.edge import Edge
from provision.errors import NotFound
from provision.media.layout import FileEntry
from provision.media.plan import Plan
from provision.service.netboot import Netboot
from provision.service.origin import Origin
from provision.service.service import Service
from provision.web import alive, enrolling, openings, problems, proving, updating
from provision.web.guard import Guard
from provision.web.links import LinkDownloads, on_network
from provision.web.stream import PlanResponse, SeedResponse, first_byte

_METHODS = ["GET", "HEAD"]


def create(netboot: Netboot, edge: Edge, links: Service | None = None) -> Guard:
    """The boot application for the listener that `edge` describes; it honours the links of the service `links`."""
    app = FastAPI(title="provision boot", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    problems.install(app)
    # What has one of these paths and comes here has another method, or a value in it that cannot be.
    app.add_route(f"{boot_paths.PXE}{boot_paths.PXELINUX}{{name}}", _no_configuration, methods=_METHODS)
    for kind in (Loader, Kernel, Initrd, SeedFile, BootIso, UnifiedKernel, SignedSeed, EnvelopeFile):
        app.add_route(boot_paths.route(kind), _no_such_name, methods=_METHODS)
    hearing = alive.add_routes(app, netboot, edge)
    enrolling.add_routes(app, netboot, edge)
    openings.add_routes(app, netboot, edge)
    proving.add_routes(app, netboot, edge)
    updating.add_routes(app, netboot, edge)
    booting = _Booting(hearing, netboot, edge)
    return Guard(app, LinkDownloads(booting, links, on_network(edge)) if links is not None else booting)


class _Booting:
    """Serves what the table of boot paths has, and leaves the rest to `app`.

    Every booting machine asks here, and at the same moment as the others: a framework's way to find a route and its
    parameters would cost more than a configuration.
    """

    def __init__(self, app: ASGIApp, netboot: Netboot, edge: Edge) -> None:
        self._app, self._netboot, self._edge = app, netboot, edge
        self._serves: dict[type[Asked], Callable[[Any, Scope, Origin], Awaitable[Response]]] = {
            PxelinuxConfig: self._pxelinux_config,
            PxelinuxByUuid: self._pxelinux_by_uuid,
            Loader: self._loader,
            Kernel: self._kernel,
            Initrd: self._initrd,
            SeedFile: self._seed,
            BootIso: self._http_boot,
            EnvelopeFile: self._envelope,
            UnifiedKernel: self._unified,
            SignedSeed: self._signed_seed,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = None
        if scope["type"] == "http" and scope["method"] in _METHODS:
            asked = boot_paths.parse(Place.HTTP, scope["path"])
        if asked is None:
            await self._app(scope, receive, send)
            return
        client = scope["client"]
        origin = await self._edge.origin(client[0] if client else None)
        response = await self._serves[type(asked)](asked, scope, origin)
        await response(scope, receive, send)

    async def _pxelinux_config(self, asked: PxelinuxConfig, _: Scope, origin: Origin) -> Response:
        """The pxelinux configuration of the machine that asks; its MAC in the path is only a claim."""
        netboot = self._netboot
        # A change of threads costs more than the configuration, but nobody else may wait for a writer.
        busy = netboot.is_busy
        body = (
            await asyncio.to_thread(netboot.pxelinux_config, origin, asked.mac)
            if busy
            else await netboot.pxelinux_config_of_many(origin, asked.mac)
        )
        return _Text(body)

    async def _pxelinux_by_uuid(self, asked: PxelinuxByUuid, _: Scope, origin: Origin) -> Response:
        """None: pxelinux goes on to ask by its MAC."""
        await asyncio.to_thread(self._netboot.note_uuid, origin, asked.uuid)
        raise _no_configuration_of_that()

    async def _loader(self, asked: Loader, _: Scope, origin: Origin) -> Response:
        """A file of the boot loader set of the machine's base image."""
        return _file(self._netboot.loader(origin, asked.name))

    async def _kernel(self, asked: Kernel, _: Scope, origin: Origin) -> Response:
        """The kernel of a base image, by the image's content hash."""
        entry = self._netboot.kernel(asked.base)
        return _file(entry, _noting(self._netboot, origin, "kernel", entry.size))

    async def _initrd(self, asked: Initrd, _: Scope, origin: Origin) -> Response:
        """An initrd of a base image."""
        netboot = self._netboot
        entry = netboot.initrd(asked.base, asked.number)
        before, size = netboot.initrds_before(asked.base, asked.number)
        return _file(entry, _noting(netboot, origin, "initrd", size, before))

    async def _seed(self, asked: SeedFile, _: Scope, origin: Origin) -> Response:
        """The seed of the running boot ("current": of a new one). GET is its first seed byte, HEAD is free."""
        netboot = self._netboot
        delivery = await self._edge.deliver_made(origin, lambda pinned: netboot.seed_of_many(pinned, asked.revision))
        return SeedResponse(delivery, partial(netboot.sent, origin, "seed", 1.0))

    async def _http_boot(self, _: BootIso, scope: Scope, origin: Origin) -> Response:
        """The ISO of the machine that asks, for UEFI HTTP Boot; a small refusing ISO when policy says no."""
        netboot, get = self._netboot, scope["method"] == "GET"
        start = first_byte(Headers(scope=scope).get("range")) if get else 0
        made = await self._edge.deliver(origin, lambda pinned: netboot.http_boot(pinned, start, sends=get))
        if isinstance(made, Plan):
            return PlanResponse(made, media_type="application/vnd.efi-iso")
        progress = _noting(netboot, origin, "seed", made.plan.size) if get else None
        return PlanResponse(made.plan, media_type="application/vnd.efi-iso", progress=progress, delivery=made)

    async def _envelope(self, _: EnvelopeFile, __: Scope, origin: Origin) -> Response:
        """The secrets of the machine that asks, such as only its own TPM opens."""
        return await openings.envelope(self._netboot.envelopes, origin)

    async def _unified(self, _: UnifiedKernel, scope: Scope, origin: Origin) -> Response:
        """The signed image of the machine that asks. There is no secret in it, so nothing is pinned."""
        netboot, get = self._netboot, scope["method"] == "GET"
        entry = await asyncio.to_thread(netboot.unified.image, origin, sends=get)
        progress = _noting(netboot, origin, "kernel", entry.size) if get else None
        return _file(entry, progress, "application/efi")

    async def _signed_seed(self, asked: SignedSeed, _: Scope, origin: Origin) -> Response:
        """The seed without secrets of the machine that asks, signed for its nonce."""
        netboot = self._netboot
        body = await asyncio.to_thread(netboot.unified.seed, origin, asked.nonce)
        netboot.sent(origin, "seed", 1.0)
        return Response(body, media_type="application/octet-stream", headers={"cache-control": "no-store"})


class _Text(Response):
    """A configuration. Its header is made for it alone: every machine waits for one, and a general one takes longer."""

    def __init__(self, body: bytes) -> None:
        self.status_code, self.body, self.background = 200, body, None
        length = b"content-length", b"%d" % len(body)
        self.raw_headers = [length, (b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


async def _no_configuration(_: Request) -> Response:
    raise _no_configuration_of_that()


async def _no_such_name(_: Request) -> Response:
    raise problems.no_such_name()


def _no_configuration_of_that() -> NotFound:
    return NotFound("pxelinux.cfg", "no such configuration", "pxelinux asks for 01-MAC next")


def _file(
    entry: FileEntry,
    progress: Callable[[int, int], None] | None = None,
    media_type: str = "application/octet-stream",
) -> Response:
    plan = Plan(entry.path, entry.sha256, entry.size, (), entry.sha256)
    return PlanResponse(plan, media_type=media_type, progress=progress)


def _noting(netboot: Netboot, origin: Origin, part: str, size: int, before: int = 0) -> Callable[[int, int], None]:
    total = max(1, size)
    return lambda start, stop: netboot.sent(origin, part, (before + stop) / total, (before + start) / total)
