"""The routes by which a host with two slots on its disk takes an update of its image."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import ExitStack

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from provision import boot_paths
from provision.edge import Edge
from provision.errors import Invalid
from provision.service.netboot import Netboot
from provision.service.update_requests import Asked, Describe, Part

_WORD = re.compile(r"[a-z0-9][a-z0-9 -]{0,62}")
_SECONDS = 30
_LONGEST, _UNCACHED = 128, {"cache-control": "no-store"}


def add_routes(app: FastAPI, netboot: Netboot, edge: Edge) -> None:
    """Add them to the boot application of the listener that `edge` describes."""

    @app.post(boot_paths.UPDATE)
    async def describe(request: Request) -> Response:
        """The host asks what it is to run; the answer is signed by the site."""
        asked = _asked(await request.body())
        wish = asked.wish
        if not isinstance(wish, Describe):
            raise _invalid()
        body = await asyncio.to_thread(netboot.updates.describe, asked, wish, edge.channel)
        return Response(body, media_type="text/plain", headers=_UNCACHED)

    @app.post(boot_paths.UPDATE_PART)
    async def part(request: Request) -> Response:
        """The host asks for a piece of a file of that; it is sent while few others are sent theirs."""
        asked = _asked(await request.body())
        wish = asked.wish
        if not isinstance(wish, Part):
            raise _invalid()
        host = await asyncio.to_thread(netboot.updates.admit, asked, edge.channel)
        with ExitStack() as turn:
            turn.enter_context(netboot.updates.turn(host.name))
            body = await asyncio.to_thread(netboot.updates.part, host, wish)
            return _Piece(body, turn.pop_all())


class _Piece(Response):
    """Some bytes, and the turn that ends when they are sent, or cannot be in time."""

    def __init__(self, body: bytes, turn: ExitStack) -> None:
        super().__init__(body, media_type="application/octet-stream", headers=_UNCACHED)
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._turn:
            try:
                async with asyncio.timeout(_SECONDS):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                # Who takes a byte now and then would keep the place from all others.
                raise ConnectionAbortedError("its piece of an update is not taken in time") from None


def _asked(body: bytes) -> Asked:
    try:
        said = json.loads(body)
        host, boot, run, sequence, what = (said[name] for name in ("host", "boot", "run", "sequence", "what"))
        tag = bytes.fromhex(said["tag"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _invalid() from None
    words = all(isinstance(word, str) and _WORD.fullmatch(word) for word in (host, boot, run))
    whole = isinstance(sequence, int) and not isinstance(sequence, bool) and 0 <= sequence < 2**53
    if not words or not whole or not isinstance(what, str) or len(what) > _LONGEST:
        raise _invalid()
    return Asked(host, boot, run, sequence, what, tag)


def _invalid() -> Invalid:
    return Invalid("update", "the body is not a valid request", "see docs/media-format.md")
