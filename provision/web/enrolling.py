"""The routes by which a booted host shows its TPM."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from provision import boot_paths
from provision.edge import Edge
from provision.service.enrolling import QUOTED, Claim, Proof
from provision.service.netboot import Netboot
from provision.service.origin import Origin
from provision.tpm import public
from provision.web.posted import Posted

_SUBJECT, _MOST_CERTIFICATE, _MOST_VALUE = "enroll", 2048, 64
_UNCACHED = {"cache-control": "no-store"}


def add_routes(app: FastAPI, netboot: Netboot, edge: Edge) -> None:
    """Add them to the boot application of the listener that `edge` describes."""

    @app.post(boot_paths.ENROLL_BEGIN)
    async def begin(request: Request) -> Response:
        """The host shows both keys of its TPM, and is asked for a proof."""
        claim = _claim(Posted(await request.body(), _SUBJECT))
        asked = await asyncio.to_thread(netboot.enrolling.begin, await _origin(edge, request), claim)
        answer = {"credential": asked.credential.hex(), "seed": asked.seed.hex(), "nonce": asked.nonce.hex()}
        return JSONResponse({**answer, "pcrs": QUOTED}, headers=_UNCACHED)

    @app.post(boot_paths.ENROLL_LOG, status_code=204)
    async def log(request: Request) -> Response:
        """The host gives a part of its firmware's log."""
        at, part = Posted(await request.body(), _SUBJECT).part()
        await asyncio.to_thread(netboot.enrolling.log, await _origin(edge, request), at, part)
        return Response(status_code=204)

    @app.post(boot_paths.ENROLL_PROVE)
    async def prove(request: Request) -> Response:
        """The host gives the proof, and is told whether its TPM is enrolled or waits for an operator."""
        said = Posted(await request.body(), _SUBJECT)
        proof = Proof(said.hex("value", _MOST_VALUE), said.quotation(QUOTED))
        origin = await edge.confirmed(await _origin(edge, request))
        verdict = await asyncio.to_thread(netboot.enrolling.prove, origin, proof)
        state = "enrolled" if verdict.known else "pending"
        return JSONResponse({"state": state, "text": verdict.known or verdict.doubt}, headers=_UNCACHED)


async def _origin(edge: Edge, request: Request) -> Origin:
    return await edge.origin(request.client.host if request.client else None)


def _claim(said: Posted) -> Claim:
    return Claim(
        endorsement=said.hex("endorsement", public.MOST),
        attestation=said.hex("attestation", public.MOST),
        certificate=said.base64("certificate", _MOST_CERTIFICATE),
    )
