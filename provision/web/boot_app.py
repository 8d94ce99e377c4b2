"""The boot application: what firmware and boot loaders may ask of one listener. No operator's route is here."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from provision.edge import Edge
from provision.errors import Denied, Invalid, NotFound
from provision.media.layout import FileEntry
from provision.media.plan import Plan
from provision.model import pxe_uuid
from provision.service.alive import Message
from provision.service.netboot import Netboot, Origin
from provision.web import problems
from provision.web.guard import Guard
from provision.web.stream import PlanResponse, SeedResponse, first_byte

_MAC = re.compile(r"01-([0-9a-f]{2}(?:-[0-9a-f]{2}){5})", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WORD = re.compile(r"[a-z0-9][a-z0-9 -]{0,62}")
_METHODS = ["GET", "HEAD"]

BaseId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, Path(pattern=r"^([0-9a-f]{64}|current)$")]


def create(netboot: Netboot, edge: Edge) -> Guard:
    """The boot application for the listener that `edge` describes."""
    app = FastAPI(title="provision boot", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    problems.install(app)

    async def origin_of(request: Request) -> Origin:
        return await edge.origin(request.client.host if request.client else None)

    async def pxelinux_config(request: Request) -> Response:
        """The pxelinux configuration of the machine that asks; its MAC in the path is only a claim."""
        origin, name = await origin_of(request), request.path_params["name"]
        if _UUID.fullmatch(name):
            await asyncio.to_thread(netboot.note_uuid, origin, pxe_uuid(name))
        claimed = _MAC.fullmatch(name)
        if claimed is None:
            raise NotFound("pxelinux.cfg", "no such configuration", "pxelinux asks for 01-MAC next")
        mac = claimed[1].replace("-", ":").lower()
        # A change of threads costs more than the configuration, but nobody else may wait for a writer.
        busy = netboot.is_busy
        body = (
            await asyncio.to_thread(netboot.pxelinux_config, origin, mac)
            if busy
            else netboot.pxelinux_config(origin, mac)
        )
        return Response(body, media_type="text/plain", headers={"cache-control": "no-store"})

    # Every booting machine asks here; FastAPI's own handling of parameters would cost more than the configuration.
    app.add_route("/pxe/pxelinux.cfg/{name}", pxelinux_config, methods=_METHODS)

    @app.api_route("/pxe/{name}", methods=_METHODS)
    async def loader(name: str, request: Request) -> Response:
        """A file of the boot loader set of the machine's base image."""
        return _file(netboot.loader(await origin_of(request), name))

    @app.api_route("/boot/{base}/kernel", methods=_METHODS)
    async def kernel(base: BaseId, request: Request) -> Response:
        """The kernel of a base image, by the image's content hash."""
        entry = netboot.kernel(base)
        return _file(entry, _noting(netboot, await origin_of(request), "kernel", entry.size))

    @app.api_route("/boot/{base}/initrd/{number}", methods=_METHODS)
    async def initrd(base: BaseId, number: int, request: Request) -> Response:
        """An initrd of a base image."""
        entry, (before, size) = netboot.initrd(base, number), netboot.initrds_before(base, number)
        return _file(entry, _noting(netboot, await origin_of(request), "initrd", size, before))

    @app.api_route("/boot/seed/{revision}/seed.cpio", methods=_METHODS)
    async def seed(revision: Revision, request: Request) -> Response:
        """The seed of the running boot ("current": of a new one). GET is its first seed byte, HEAD is free."""
        origin, wanted = await origin_of(request), None if revision == "current" else revision
        delivery = await edge.deliver(origin, lambda pinned: netboot.seed(pinned, wanted))
        return SeedResponse(delivery, partial(netboot.sent, origin, "seed", 1.0))

    @app.api_route("/http-boot/boot.iso", methods=_METHODS)
    async def http_boot(request: Request) -> Response:
        """The ISO of the machine that asks, for UEFI HTTP Boot; a small refusing ISO when policy says no."""
        origin, get = await origin_of(request), request.method == "GET"
        start = first_byte(request.headers.get("range")) if get else 0
        made = await edge.deliver(origin, lambda pinned: netboot.http_boot(pinned, start, sends=get))
        if isinstance(made, Plan):
            return PlanResponse(made, media_type="application/vnd.efi-iso")
        progress = _noting(netboot, origin, "seed", made.plan.size) if get else None
        return PlanResponse(made.plan, media_type="application/vnd.efi-iso", progress=progress, delivery=made)

    _host_says(app, netboot, edge)
    return Guard(app)


def _host_says(app: FastAPI, netboot: Netboot, edge: Edge) -> None:
    """The routes of a host that has booted."""

    @app.post("/up", status_code=204)
    async def up(request: Request) -> Response:
        """The booted host says that it is up: JSON {"host": NAME, "key": HEX}, once."""
        host, key = _phone_home(await request.body())
        await asyncio.to_thread(netboot.arrivals.up, host, key, edge.channel)
        return Response(status_code=204)

    @app.post("/alive", status_code=204)
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
