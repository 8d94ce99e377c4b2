"""Bounds on what operators send: bytes of each route's body and of all bodies together, counted as they are read."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provision.errors import ProvisionError, TooLarge, Unavailable
from provision.web import problems

KIB, MIB = 1 << 10, 1 << 20
USUAL = 64 * KIB
"""Bytes of the body of a route that names no other bound."""
TOGETHER = 96 * MIB
"""Bytes of all bodies that are in memory at a time: one of the largest, and many small ones."""
_MAX_VALUES = 1_000_000
"""Values of one JSON body: a credential has three, and ten thousand hosts have some tens of thousands of those."""


@dataclass(frozen=True)
class BodyLimit:
    """How many bytes the body of a route may have; None: the route writes it to the disk as it comes."""

    method: str
    path: re.Pattern[str]
    size: int | None


BOUNDS = (
    # An inventory of ten thousand hosts has 5 MB as YAML, and the body has it as base64.
    BodyLimit("POST", re.compile("/v1/inventory"), 64 * MIB),
    BodyLimit("POST", re.compile("/v1/credentials"), 64 * MIB),
    # A vendor's list of ten thousand hosts has 1 MB.
    BodyLimit("POST", re.compile("/v1/tpms"), 16 * MIB),
    BodyLimit("PUT", re.compile("/v1/hosts/[^/]+/credentials/[^/]+"), 1 * MIB),
    BodyLimit("POST", re.compile("/v1/images/[^/]+"), 1 * MIB),
    BodyLimit("POST", re.compile("/v1/uploads"), None),
    # Of the pages. Whoever logs in is not known yet, and a form has an inventory with each odd byte as three.
    BodyLimit("POST", re.compile("/login"), 4 * KIB),
    BodyLimit("POST", re.compile("/inventory"), 16 * MIB),
)


def bound_of(method: str, path: str) -> int | None:
    """The bound of a request's body in bytes; None for one that is not kept in memory."""
    for bound in BOUNDS:
        if bound.method == method and bound.path.fullmatch(path):
            return bound.size
    return USUAL


class Bodies:
    """Reads every body whole before the application runs, and no byte more than its route may have.

    What is refused is answered with 413, 422 or 503 as a problem document, and the connection ends: the rest of a
    body is not read. `entitle` raises for whoever may send no body of more than USUAL bytes.
    """

    def __init__(self, app: ASGIApp, entitle: Callable[[Scope], None], together: int = TOGETHER) -> None:
        self._app, self._entitle, self._together = app, entitle, together
        self.held = 0
        """Bytes of bodies in memory now."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = bound_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if size is None or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        taken = _Taken()
        try:
            try:
                body = await self._read(scope, receive, size, taken)
            except ProvisionError as error:
                answer = problems.response(error)
                answer.headers["connection"] = "close"
                await answer(scope, receive, send)
                return
            if body is not None:
                await self._app(scope, _Again(body, receive), send)
        finally:
            self.held -= taken.size
            if taken.size > MIB:
                # What failed to read a body is held by its own traceback, and the body with it.
                gc.collect()

    def _bound(self, scope: Scope, size: int) -> tuple[int, ProvisionError]:
        """How many bytes of a body of at most `size` its sender may send, and the error for more."""
        if size > USUAL:
            try:
                self._entitle(scope)
            except ProvisionError as error:
                return USUAL, error
        return size, _too_large(size)

    async def _read(self, scope: Scope, receive: Receive, size: int, taken: _Taken) -> bytes | None:
        """The body, which is counted in `held` as far as it was `taken`; None when the client has left."""
        size, refusal = self._bound(scope, size)
        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared[:20]) > size:
            raise refusal
        parts, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            if len(parts) + len(part) > size:
                raise refusal
            if self.held + len(part) > self._together:
                raise Unavailable("request", "other large bodies are being read", "try again")
            parts += part
            self.held += len(part)
            taken.size += len(part)
            more = message.get("more_body", False)
        if scope["method"] == "POST" and sum(map(parts.count, (b",", b"[", b"{"))) > _MAX_VALUES:
            raise TooLarge("request", f"its body has more than {_MAX_VALUES} values", "send it in parts")
        return bytes(parts)


@dataclass
class _Taken:
    """Bytes of one body that were read."""

    size: int = 0


class _Again:
    """A `receive` that gives a body that was read before, and then goes on."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _has_body(scope: Scope) -> bool:
    return _header(scope, b"content-length") not in (b"", b"0") or bool(_header(scope, b"transfer-encoding"))


def _header(scope: Scope, name: bytes) -> bytes:
    """The value of a header, or nothing; names are in lower case in a scope."""
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _too_large(size: int) -> TooLarge:
    most = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
    return TooLarge("request", f"its body has more than {most}", "send less, or in parts")
