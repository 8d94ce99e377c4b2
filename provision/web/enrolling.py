"""The routes by which a booted host shows its TPM. Bodies are JSON, with bytes in hex, or in base64 where they may be
many: a boot listener takes bodies of 4 KiB. Nothing of them is repeated."""

from __future__ import annotations

import asyncio
import binascii
import json
from base64 import b64decode
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from provision import boot_paths
from provision.edge import Edge
from provision.errors import Invalid
from provision.service.enrolling import MOST_LOG, QUOTED, Claim, Proof
from provision.service.netboot import Netboot
from provision.service.origin import Origin
from provision.tpm import public

_MOST_CERTIFICATE, _MOST_PART, _MOST_ATTEST, _MOST_VALUE = 2048, 2048, 1024, 64
_UNCACHED = {"cache-control": "no-store"}


def add_routes(app: FastAPI, netboot: Netboot, edge: Edge) -> None:
    """Add them to the boot application of the listener that `edge` describes."""

    @app.post(boot_paths.ENROLL_BEGIN)
    async def begin(request: Request) -> Response:
        """The host shows both keys of its TPM, and is asked for a proof."""
        claim = _claim(_object(await request.body()))
        asked = await asyncio.to_thread(netboot.enrolling.begin, await _origin(edge, request), claim)
        answer = {"credential": asked.credential.hex(), "seed": asked.seed.hex(), "nonce": asked.nonce.hex()}
        return JSONResponse({**answer, "pcrs": QUOTED}, headers=_UNCACHED)

    @app.post(boot_paths.ENROLL_LOG, status_code=204)
    async def log(request: Request) -> Response:
        """The host gives a part of its firmware's log."""
        said = _object(await request.body())
        at, part = said.get("at"), _base64(said, "part", _MOST_PART)
        if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at <= MOST_LOG:
            raise _wrong("at")
        await asyncio.to_thread(netboot.enrolling.log, await _origin(edge, request), at, part)
        return Response(status_code=204)

    @app.post(boot_paths.ENROLL_PROVE)
    async def prove(request: Request) -> Response:
        """The host gives the proof, and is told whether its TPM is enrolled or waits for an operator."""
        proof = _proof(_object(await request.body()))
        origin = await edge.confirmed(await _origin(edge, request))
        verdict = await asyncio.to_thread(netboot.enrolling.prove, origin, proof)
        state = "enrolled" if verdict.known else "pending"
        return JSONResponse({"state": state, "text": verdict.known or verdict.doubt}, headers=_UNCACHED)


async def _origin(edge: Edge, request: Request) -> Origin:
    return await edge.origin(request.client.host if request.client else None)


def _claim(said: dict[str, Any]) -> Claim:
    return Claim(
        endorsement=_hex(said, "endorsement", public.MOST),
        attestation=_hex(said, "attestation", public.MOST),
        certificate=_base64(said, "certificate", _MOST_CERTIFICATE),
    )


def _proof(said: dict[str, Any]) -> Proof:
    values = said.get("pcrs")
    if not isinstance(values, dict) or values.keys() != {str(number) for number in QUOTED}:
        raise _wrong("pcrs")
    return Proof(
        value=_hex(said, "value", _MOST_VALUE),
        message=_hex(said, "message", _MOST_ATTEST),
        signature=_hex(said, "signature", _MOST_ATTEST),
        values={int(number): _digest(values, number) for number in values},
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Invalid("enroll", "the body is not a JSON object", "see docs/media-format.md")
    return said


def _hex(said: dict[str, Any], name: str, most: int) -> bytes:
    text = said.get(name)
    try:
        if isinstance(text, str) and len(text) <= 2 * most:
            return binascii.unhexlify(text)
    except ValueError:
        pass
    raise _wrong(name)


def _digest(values: dict[str, Any], number: str) -> bytes:
    value = _hex(values, number, 32)
    if len(value) != 32:
        raise _wrong("pcrs")
    return value


def _base64(said: dict[str, Any], name: str, most: int) -> bytes:
    text = said.get(name)
    try:
        if isinstance(text, str) and len(text) <= 4 * -(-most // 3):
            return b64decode(text, validate=True)
    except ValueError:
        pass
    raise _wrong(name)


def _wrong(name: str) -> Invalid:
    """What to raise for a member; `name` is one of ours."""
    name = name if not name.isdigit() else "pcrs"
    return Invalid("enroll", f"'{name}' is missing, too long or not what it has to be", "see docs/media-format.md")
