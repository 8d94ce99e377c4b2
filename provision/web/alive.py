"""What booted hosts say of themselves: once that they have come up, and every few seconds that they still are."""

from __future__ import annotations

import asyncio
import json
import re

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from provision import boot_paths
from provision.edge import Edge
from provision.errors import Denied, Invalid
from provision.service.alive import Message
from provision.service.netboot import Netboot

_WORD = re.compile(r"[a-z0-9][a-z0-9 -]{0,62}")


def add_routes(app: FastAPI, netboot: Netboot, edge: Edge) -> ASGIApp:
    """Add them to the boot application of the listener that `edge` describes; returns what is to stand before it."""

    @app.post(boot_paths.UP, status_code=204)
    async def up(request: Request) -> Response:
        """The booted host says that it is up: JSON {"host": NAME, "key": HEX}, once."""
        host, key = _phone_home(await request.body())
        await asyncio.to_thread(netboot.phone_home.up, host, key, edge.channel)
        return Response(status_code=204)

    hearing = _Hearing(app, netboot, edge)
    app.add_route(boot_paths.ALIVE, hearing.alive, methods=["POST"])
    return hearing


class _Hearing:
    """Hears hosts that are up, and leaves the rest to `app`.

    All of them speak every few seconds, for as long as they run: a framework's way to a route, and a change of threads,
    would cost more than to hear what they say.
    """

    def __init__(self, app: ASGIApp, netboot: Netboot, edge: Edge) -> None:
        self._app, self._netboot, self._edge = app, netboot, edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != boot_paths.ALIVE:
            await self._app(scope, receive, send)
            return
        try:
            answer = await self.alive(Request(scope, receive))
        except ClientDisconnect:
            return  # in the middle of what it said; nobody waits for an answer
        await answer(scope, receive, send)

    async def alive(self, request: Request) -> Response:
        """The booted host says that it stays up or goes down, signed with the key from its seed. When it is to do
        something, it is told so under the same key; it may be told to enrol its TPM."""
        message, netboot = _message(await request.body()), self._netboot
        say, channel = netboot.phone_home.alive, self._edge.channel
        busy = netboot.phone_home.is_news(message) or netboot.is_busy
        order = await asyncio.to_thread(say, message, channel) if busy else say(message, channel)
        if order is not None:
            return JSONResponse(order)
        if message.up and netboot.enrolling.is_wanted(message.host):
            return Response(b"enroll\n", media_type="text/plain")
        return Response(status_code=204)


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
        tag, told = bytes.fromhex(said["tag"]), tuple(said.get(name, "") for name in ("identity", "slots"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Invalid("alive", "the body is not a valid message", "see docs/media-format.md") from None
    words = all(isinstance(word, str) and _WORD.fullmatch(word) for word in (host, boot, run))
    whole = isinstance(sequence, int) and not isinstance(sequence, bool) and 0 <= sequence < 2**53
    short = all(isinstance(text, str) and text.isascii() and len(text) <= 4096 for text in told)
    if not words or not whole or state not in ("up", "down") or not short:
        raise Invalid("alive", "the body is not a valid message", "see docs/media-format.md")
    return Message(host, boot, run, sequence, state == "up", tag, *told)
