"""Parts of pages that follow what happens, as server-sent events (HTML Living Standard, section 9.2).

What many look at is made once a second for all of them. A stream ends with its session, and does not keep it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Hashable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from provision.errors import ProvisionError
from provision.service.sessions import Sessions
from provision.web.pages.rendering import Pages
from provision.web.pages.session import cookie_of

EVERY = 1.0
"""Seconds between two looks."""
_QUIET = 15
"""After so many looks without news a comment is sent, so that nothing in between takes the stream for dead."""
_KEPT = 256
_TYPE = "text/event-stream"
_REST, _LONGEST_REST = 3.0, 5.0
"""How many times as long as a making the pause after it is, and at most how many seconds: however many different parts
are looked at, making them takes a quarter of one processor, and boots go on."""

Make = Callable[[], str]
"""Makes a part; raises ProvisionError when what it is about has gone."""


class Live:
    """Makes and sends parts."""

    def __init__(self, pages: Pages) -> None:
        self._sessions = pages.service.sessions
        # Each part's making, and the moment of that.
        self._parts: dict[Hashable, tuple[float, asyncio.Task[tuple[str, float]]]] = {}
        self._turn, self._rested = asyncio.Lock(), 0.0

    async def stream(self, request: Request, what: Hashable, make: Make) -> Response:
        """The events of one part. `what` says which it is: all that ask for the same share it."""
        if request.method == "HEAD":
            return Response(media_type=_TYPE)
        cookie = cookie_of(request.scope)
        return _Stream(self._events(cookie, what, make), self._sessions, cookie)

    async def _events(self, cookie: bytes | None, what: Hashable, make: Make) -> AsyncGenerator[bytes]:
        yield b"retry: 5000\n\n"
        last, quiet, since = "", 0, time.monotonic()
        while self._sessions.lives(cookie):
            try:
                text, began = await self._part(what, make)
            except ProvisionError:
                break
            quiet += 1
            if began < since:
                pass  # the page is newer: others who look have had this one made
            elif text != last:
                yield event("changed", text)
                last, quiet = text, 0
            elif quiet >= _QUIET:
                yield b":\n\n"
                quiet = 0
            await asyncio.sleep(EVERY)
        yield event("ended", "")

    async def _part(self, what: Hashable, make: Make) -> tuple[str, float]:
        """The part, and the moment when its making began."""
        now = time.monotonic()
        made, task = self._parts.get(what, (0.0, None))
        if task is None or now - made >= EVERY:
            if len(self._parts) >= _KEPT:
                self._parts = {key: known for key, known in self._parts.items() if now - known[0] < EVERY}
            task = asyncio.create_task(self._made(make))
            self._parts[what] = now, task
        return await asyncio.shield(task)

    async def _made(self, make: Make) -> tuple[str, float]:
        """What `make` makes, in a thread, when its turn has come, and when that was."""
        async with self._turn:
            await asyncio.sleep(max(0.0, self._rested - time.monotonic()))
            began = time.monotonic()
            try:
                return await asyncio.to_thread(make), began
            finally:
                ended = time.monotonic()
                self._rested = ended + min(_REST * (ended - began), _LONGEST_REST)


class _Stream(StreamingResponse):
    """A stream that counts as one of its session's while it is sent."""

    def __init__(self, events: AsyncGenerator[bytes], sessions: Sessions, cookie: bytes | None) -> None:
        super().__init__(events, media_type=_TYPE)
        self._sessions, self._cookie = sessions, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._sessions.stream(self._cookie):
            await super().__call__(scope, receive, send)


def event(name: str, text: str) -> bytes:
    """One event, whose text may have several lines."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()
