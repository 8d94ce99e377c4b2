"""Streaming a medium over HTTP: HEAD, single ranges, conditions (RFC 9110 sections 13 and 14), straight from its plan.

Bytes that are in the page cache are read and sent in the event loop; anything else is read in a thread, so a cold read
stalls nobody. A plan is immutable: a reader that has begun gets this medium to its end, or a broken connection, never a
mix.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from provision.api.problem import MEDIA_TYPE
from provision.errors import ProvisionError
from provision.media.content import PlanContent
from provision.media.plan import Plan
from provision.service.delivery import Delivery
from provision.web import pipe as pipes
from provision.web.problems import problem
from provision.web.protocol import EXCHANGE, Exchange
from provision.web.watch import Watch, watched

_FIRST = 16 * 1024  # all that a client which never reads makes us hold in memory, and what it waits for at first
_PIECE = 16 * 1024  # where bytes go through memory: nothing more is read before nearly all of it is taken
_WORTH_IT = 1024 * 1024  # bytes from which on a pipe is opened
_BREATH = 4 * 1024 * 1024
_REFUSALS = {
    412: problem("medium", "is not the one that If-Match names", 412, "download it from the first byte"),
    416: problem("medium", "has no byte of this range", 416, "ask for another range"),
}
"""What is sent instead of a medium, by status."""
_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.ASCII)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """What of a medium is to be sent: a status of 200, 206, 304, 412 or 416, and the bytes from `start` to `stop`."""

    status: int
    start: int = 0
    stop: int = 0


def first_byte(value: str | None) -> int:
    """The first byte that a Range header asks for, 0 without one or when it is ignored; 1 for a range from the end."""
    found = _RANGE.fullmatch(value or "")
    if found is None or found[1] == found[2] == "":
        return 0
    return int(found[1][:18]) if found[1] else 1


def select(method: str, headers: Headers, etag: str, size: int) -> Selection:
    """Evaluate conditions and range in the order of RFC 9110 section 13.2.2. Several ranges get the whole: firmware
    never asks for them, and nobody else needs them."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None and not listed(etag, match):
        return Selection(412)
    if none_match is not None and listed(etag, none_match, weak=True):
        return Selection(304)
    asked, condition = headers.get("range"), headers.get("if-range")
    if asked is None or method != "GET" or (condition is not None and condition.strip() != etag):
        return Selection(200, 0, size)
    return _range(asked, size)


def sent_of(headers: Headers, plan: Plan) -> range:
    """The bytes of the medium that the answer to a GET with these headers has; none for 304, 412 and 416."""
    chosen = select("GET", headers, plan.etag, plan.size)
    return range(chosen.start, chosen.stop)


def listed(etag: str, value: str, weak: bool = False) -> bool:
    """Whether a strong entity tag is in the value of If-Match, or, `weak`, of If-None-Match."""
    if value.strip() == "*":
        return True
    return any(etag == (tag.removeprefix("W/") if weak else tag) for tag in re.split(r"\s*,\s*", value.strip()))


def _range(value: str, size: int) -> Selection:
    found = _RANGE.fullmatch(value)
    if found is None or found[1] == found[2] == "" or max(len(found[1]), len(found[2])) > 18:
        return Selection(200, 0, size)
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return Selection(200, 0, size)
    return Selection(206, start, stop) if start < stop else Selection(416)


class PlanResponse(Response):
    """The medium of `plan` as a response. `progress` is told from which byte of the medium to which have been sent up
    to now: after every 4 MiB, and at the end of the range. With a `delivery` the medium's seed goes to one machine
    only, and as long as it may; `check` is asked before each piece, and raises a ProvisionError when it may not go.
    `file` is what a client that saves it is to call it, a name without quotes.

    Raises Unavailable before the first byte when the base cannot be read; after it, the connection is broken.
    """

    def __init__(
        self,
        plan: Plan,
        media_type: str,
        progress: Callable[[int, int], None] | None = None,
        delivery: Delivery | None = None,
        check: Callable[[], None] = lambda: None,
        file: str | None = None,
    ) -> None:
        super().__init__(media_type=media_type)
        self._file = file
        self.plan, self._progress, self._delivery, self._check = plan, progress, delivery, check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plan, get = self.plan, scope["method"] == "GET"
        chosen = select(scope["method"], Headers(scope=scope), plan.etag, plan.size)
        body, exchange = get and chosen.status in (200, 206), scope.get("extensions", {}).get(EXCHANGE)
        refusal = _REFUSALS.get(chosen.status, b"")
        async with watched(self._delivery, exchange, range(chosen.start, chosen.stop if body else 0)) as watch:
            content = PlanContent(plan)
            try:
                data = await self._read(content, chosen.start, chosen.stop, _FIRST) if body else b""
                await send(
                    {"type": "http.response.start", "status": chosen.status, "headers": self._head(chosen, refusal)}
                )
                if watch is not None:
                    watch.begin()
                if body:
                    await self._stream(content, chosen, data, send, exchange, watch)
                else:
                    await send({"type": "http.response.body", "body": refusal if get else b"", "more_body": False})
            finally:
                content.close()

    def _head(self, chosen: Selection, refusal: bytes) -> list[tuple[bytes, bytes]]:
        status, size = chosen.status, self.plan.size
        fields = {"etag": self.plan.etag, "accept-ranges": "bytes", "cache-control": "no-store"}
        if status in (200, 206) and self._file is not None:
            fields["content-disposition"] = f'attachment; filename="{self._file}"'
        if status in (200, 206):
            fields |= {"content-type": self.media_type or "", "content-length": str(chosen.stop - chosen.start)}
        if status == 206:
            fields["content-range"] = f"bytes {chosen.start}-{chosen.stop - 1}/{size}"
        if status == 416:
            fields["content-range"] = f"bytes */{size}"
        if refusal:
            fields |= {"content-type": MEDIA_TYPE, "content-length": str(len(refusal))}
        return [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]

    async def _read(self, content: PlanContent, at: int, stop: int, most: int = pipes.CHUNK) -> bytes:
        length = min(most, stop - at)
        if length <= 0:
            return b""
        data = content.read_now(at, length)
        return data if data is not None else await asyncio.to_thread(content.read, at, length)

    def _require(self, watch: Watch | None) -> None:
        """Raise a ProvisionError when no further byte may go."""
        self._check()
        if watch is not None:
            watch.check()

    async def _stream(
        self,
        content: PlanContent,
        chosen: Selection,
        data: bytes,
        send: Send,
        exchange: Exchange | None,
        watch: Watch | None,
    ) -> None:
        at, stop, told = chosen.start, chosen.stop, chosen.start
        pipe = pipes.opened(exchange, content) if exchange is not None and stop - at > _WORTH_IT else None
        try:
            while at + len(data) < stop:
                self._require(watch)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                    at, data = at + len(data), b""
                pushed = await pipe.push(at, _breath_end(at, stop, watch)) if pipe is not None else 0
                at += pushed
                if exchange is not None and exchange.is_gone:
                    return
                if at - told >= _BREATH:
                    told = at
                    self._tell(chosen.start, at)
                    await asyncio.sleep(0)  # a fast reader never makes `send` wait; others want their turn
                if not pushed:
                    # Beside a pipe only what it cannot carry: every byte is copied several times here.
                    data = await self._next(content, at, content.next_patch_end(at, stop) if pipe else stop, exchange)
            self._check()
            if watch is not None:
                data = await _settle(watch, data, send, stop - chosen.start)
        except (ProvisionError, OSError) as error:
            _log.error("streaming stopped at byte %d: %s", at, error)
            raise ConnectionAbortedError("the medium cannot be read any further") from None
        finally:
            if pipe is not None:
                pipe.close()
            self._tell(chosen.start, at)  # also of what a client that has gone was sent
        await send({"type": "http.response.body", "body": data, "more_body": False})
        self._tell(chosen.start, stop)

    async def _next(self, content: PlanContent, at: int, stop: int, exchange: Exchange | None) -> bytes:
        if exchange is None or exchange.is_operator:
            return await self._read(content, at, stop)
        await exchange.drain()
        return await self._read(content, at, stop, _PIECE)

    def _tell(self, start: int, stop: int) -> None:
        if self._progress is not None:
            self._progress(start, stop)


def _breath_end(at: int, stop: int, watch: Watch | None) -> int:
    """Up to where to send from `at` on before others have their turn: no rest is left that a pipe would not take, but
    for the last byte of an answer that is watched, which settles it."""
    end = stop if watch is None else stop - 1
    return end if end - at < _BREATH + pipes.CHUNK else at + _BREATH


async def _settle(watch: Watch, last: bytes, send: Send, length: int) -> bytes:
    """Send the `last` bytes of `length` and wait until their machine has them all; returns what is left to send."""
    watch.check()
    await send({"type": "http.response.body", "body": last, "more_body": True})
    await watch.settle(length)
    return b""


class SeedResponse(Response):
    """A seed as a response, whole: `sent` is called when its machine has all of it."""

    def __init__(self, delivery: Delivery, sent: Callable[[], None]) -> None:
        super().__init__(media_type="application/octet-stream")
        self._delivery, self._sent = delivery, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        data, get = self._delivery.data, scope["method"] == "GET"
        body, exchange = data if get else b"", scope.get("extensions", {}).get(EXCHANGE)
        fields = {"cache-control": "no-store", "content-length": str(len(data)), "content-type": self.media_type or ""}
        headers = [(name.encode(), value.encode()) for name, value in fields.items()]
        whole = get
        async with watched(self._delivery, exchange, range(len(body))) as watch:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if watch is not None:
                watch.begin()
            try:
                for at in range(0, len(body), _PIECE):
                    if watch is not None:
                        watch.check()
                    await send({"type": "http.response.body", "body": body[at : at + _PIECE], "more_body": True})
                    if exchange is not None:
                        await exchange.drain()
                if watch is not None:
                    whole = await watch.settle(len(body))
            except ProvisionError:
                raise ConnectionAbortedError("the seed may no longer be given") from None
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if whole:
            self._sent()
