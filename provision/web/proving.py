"""The routes by which a booted host proves its boot, and gets its envelope for it."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from provision import boot_paths
from provision.edge import Edge
from provision.service.netboot import Netboot
from provision.service.origin import Origin
from provision.service.proving import QUOTED
from provision.tpm import public
from provision.web.posted import Posted

_SUBJECT, _UNCACHED = "proof", {"cache-control": "no-store"}


def add_routes(app: FastAPI, netboot: Netboot, edge: Edge) -> None:
    """Add them to the boot application of the listener that `edge` describes."""

    @app.post(boot_paths.PROOF_BEGIN)
    async def begin(request: Request) -> Response:
        """The host shows its attestation key, and is told what to quote."""
        area = Posted(await request.body(), _SUBJECT).hex("attestation", public.MOST)
        nonce = await asyncio.to_thread(netboot.proving.begin, await _origin(edge, request), area)
        return JSONResponse({"nonce": nonce.hex(), "pcrs": QUOTED}, headers=_UNCACHED)

    @app.post(boot_paths.PROOF_LOG, status_code=204)
    async def log(request: Request) -> Response:
        """The host gives a part of its firmware's log."""
        at, part = Posted(await request.body(), _SUBJECT).part()
        await asyncio.to_thread(netboot.proving.log, await _origin(edge, request), at, part)
        return Response(status_code=204)

    @app.post(boot_paths.PROOF)
    async def prove(request: Request) -> Response:
        """The host gives its quote, and gets its envelope."""
        shown = Posted(await request.body(), _SUBJECT).quotation(QUOTED)
        file = await asyncio.to_thread(netboot.proving.prove, await _origin(edge, request), shown)
        return Response(file, media_type="application/octet-stream", headers=_UNCACHED)


async def _origin(edge: Edge, request: Request) -> Origin:
    return await edge.origin(request.client.host if request.client else None)
