"""The routes of envelopes: a host fetches its own, and says what became of it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode

from fastapi import FastAPI, Request
from fastapi.responses import Response

from provision import boot_paths
from provision.boot_paths import EnvelopeFile
from provision.edge import Edge
from provision.errors import Invalid
from provision.service.envelopes import Envelopes
from provision.service.netboot import Netboot
from provision.service.openings import Outcome
from provision.service.origin import Origin

_MOST_NUMBER = 1 << 53


async def envelope(envelopes: Envelopes, origin: Origin) -> Response:
    """The envelope of the machine that asks."""
    file = await asyncio.to_thread(envelopes.give, origin)
    return Response(file, media_type="application/octet-stream", headers={"cache-control": "no-store"})


def add_routes(app: FastAPI, netboot: Netboot, edge: Edge) -> None:
    """Add what a host says of its envelope to the boot application of the listener that `edge` describes."""

    @app.post(boot_paths.http(EnvelopeFile()), status_code=204)
    async def opened(request: Request) -> Response:
        """The booted host says what became of its envelope."""
        said = _said(await request.body())
        origin = await edge.origin(request.client.host if request.client else None)
        await asyncio.to_thread(netboot.openings.take, origin, *said)
        return Response(status_code=204)


def _said(body: bytes) -> tuple[Outcome, int, bytes, int | None]:
    try:
        said = json.loads(body)
        outcome, number, events = Outcome(said["outcome"]), said["number"], b64decode(said["events"], validate=True)
        # Images of before do not say it.
        remembered = said.get("remembered")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _invalid() from None
    if not _is_number(number) or not (remembered is None or _is_number(remembered)):
        raise _invalid()
    return outcome, number, events, remembered


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_NUMBER


def _invalid() -> Invalid:
    return Invalid("envelope", "the body is not a valid report", "see docs/media-format.md")
