"""Parts of pages that follow what happens, as server-sent events (HTML Living Standard, section 9.2).

One round each second looks for all who follow: each part is looked at once, made once when it is another, and written
into one event for all; nobody is woken for whom nothing is new. A stream ends with its session, and does not keep it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

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
"""After so many times that long without news a comment is sent, so that nothing in between takes the stream for
dead."""
_TYPE = "text/event-stream"
_BUSY = 0.02
"""Seconds after which a making of several parts has a pause."""
_REST, _LONGEST_REST = 3.0, 5.0
"""How many times as long as a making the pause after it is, and at most how many seconds: however many different parts
are looked at, making them takes a quarter of one processor, and boots go on."""

Look = Callable[[], Any]
"""What a part shows now, which is equal as long as the part is the same; raises ProvisionError when what it is about
has gone."""
Show = Callable[[Any], str]
"""Makes the part of that."""

_NEVER = object()


@dataclass(eq=False)
class _Part:
    """One part: what was `seen` when it was looked at last, which began at `began`, its `event`, and what went wrong
    then. Those `following` share it."""

    look: Look
    show: Show
    seen: Any = _NEVER
    began: float = 0.0
    text: str | None = None
    event: bytes = b""
    error: Exception | None = None
    following: set[_Follower] = field(default_factory=set)

    def make(self) -> None:
        """Look, and make what is another. Runs in a thread, one at a time."""
        began = time.monotonic()
        try:
            seen = self.look()
            if seen != self.seen:
                text = self.show(seen)
                if text != self.text:
                    self.text, self.event = text, event("changed", text)
                self.seen = seen
            self.error = None
        except Exception as error:
            self.error = error
        self.began = began  # at last: whoever reads it reads an event that is no older


@dataclass(eq=False)
class _Follower:
    """One stream, of a page that was loaded before `since`. It is woken for news, to be `over`, or for a comment after
    nothing was sent since `last`."""

    part: _Part
    cookie: bytes | None
    since: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    sent: bytes = b""
    over: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_news(self) -> bool:
        """Whether there is something to send. A page that is newer than a part is not sent that one: others who look
        have had it made."""
        part = self.part
        return part.error is not None or (part.began >= self.since and part.event is not self.sent)


class Live:
    """Makes and sends parts."""

    def __init__(self, pages: Pages) -> None:
        self._sessions = pages.service.sessions
        self._parts: dict[Hashable, _Part] = {}
        self._rounds: asyncio.Task[None] | None = None

    async def stream(self, request: Request, what: Hashable, look: Look, show: Show = str) -> Response:
        """The events of one part. `what` says which it is: all that ask for the same share it."""
        if request.method == "HEAD":
            return Response(media_type=_TYPE)
        return _Stream(self, self._sessions, cookie_of(request.scope), what, _Part(look, show))

    @contextmanager
    def following(self, cookie: bytes | None, what: Hashable, part: _Part) -> Iterator[_Follower]:
        """While somebody follows a part: the one that others follow already, if there is one."""
        part = self._parts.setdefault(what, part)
        follower = _Follower(part, cookie)
        part.following.add(follower)
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._go_round())
        try:
            yield follower
        finally:
            part.following.discard(follower)
            if not part.following and self._parts.get(what) is part:
                del self._parts[what]

    async def events(self, follower: _Follower) -> AsyncGenerator[bytes]:
        """What is sent to one who follows."""
        yield b"retry: 5000\n\n"
        while True:
            await follower.woken.wait()
            follower.woken.clear()
            # A making may take long, and nothing is sent to a session that has ended by now.
            if follower.over or not self._sessions.lives(follower.cookie):
                break
            error, follower.last = follower.part.error, time.monotonic()
            if isinstance(error, ProvisionError):
                break
            if error is not None:
                raise error
            if follower.has_news:
                follower.sent = follower.part.event
                yield follower.sent
            else:
                yield b":\n\n"
        yield event("ended", "")

    async def _go_round(self) -> None:
        while self._parts:
            next_one = time.monotonic() + EVERY
            self._end_those_without_session()
            left = list(self._parts.values())
            while left:
                began = time.monotonic()
                done = await asyncio.to_thread(_make, left)
                made, left = left[:done], left[done:]
                for part in made:
                    _wake(part)
                if left:
                    await asyncio.sleep(_rest(began))
            await asyncio.sleep(max(_rest(began), next_one - time.monotonic()))

    def _end_those_without_session(self) -> None:
        followers = [follower for part in self._parts.values() for follower in part.following]
        lives = {cookie: self._sessions.lives(cookie) for cookie in {one.cookie for one in followers}}
        for follower in followers:
            if not lives[follower.cookie]:
                follower.over = True
                follower.woken.set()


def _make(parts: Sequence[_Part]) -> int:
    """Make the first of these parts, as many as a short while has room for; how many."""
    end = time.monotonic() + _BUSY
    for number, part in enumerate(parts, 1):
        part.make()
        if time.monotonic() >= end:
            return number
    return len(parts)


def _rest(began: float) -> float:
    """Seconds of the pause after a making that began then."""
    return min(_REST * (time.monotonic() - began), _LONGEST_REST)


def _wake(part: _Part) -> None:
    """Wake those who follow a part that was just made, if there is something to send to them."""
    silent = time.monotonic() - _QUIET * EVERY
    for follower in part.following:
        if follower.has_news or follower.last < silent:
            follower.woken.set()


class _Stream(StreamingResponse):
    """A stream that counts as one of its session's while it is sent."""

    def __init__(self, live: Live, sessions: Sessions, cookie: bytes | None, what: Hashable, part: _Part) -> None:
        super().__init__((), media_type=_TYPE)
        self._live, self._sessions, self._cookie, self._what, self._part = live, sessions, cookie, what, part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with (
            self._sessions.stream(self._cookie),
            self._live.following(self._cookie, self._what, self._part) as follower,
        ):
            self.body_iterator = self._live.events(follower)
            await super().__call__(scope, receive, send)


def event(name: str, text: str) -> bytes:
    """One event, whose text may have several lines."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()
