"""Sessions of browsers: who logged in with a token or a ticket, for as long as that is good and somebody is there.

A session is known by a cookie of 256 random bits, of which only an HMAC is kept, in memory: it ends with the process.
It can do what its token or ticket can, and ends when that one is revoked or expires.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from provision.errors import TooMany, Unauthenticated
from provision.principal import Principal
from provision.secret import Secret
from provision.service.core import Core
from provision.service.logins import Logins
from provision.ticket import Ticket
from provision.token import Token

IDLE, LONGEST = timedelta(hours=1), timedelta(hours=12)
"""After how long without a request a session ends, and after how long in any case."""
MOST = 1000
"""Sessions that there are at a time; of more, one ends of the token that has most, which was used longest ago."""
STREAMS = 6
"""Streams of events that one session may have open: a browser opens no more connections to one server."""

_SENT = 64
"""Forms of one session that are known to have been sent."""
_BYTES = 32
_COOKIE = re.compile(rb"[A-Za-z0-9_-]{43}")
_LOG_IN = "log in again"


@dataclass
class Session:
    """One browser that is logged in by what it has `shown`, since `begun`, and asked last at `used`, until it has
    `left`. The forms that do something only once were `sent`."""

    shown: Token | Ticket
    begun: datetime
    used: datetime
    streams: int = 0
    left: bool = False
    sent: OrderedDict[str, None] = field(default_factory=OrderedDict)


class Sessions:
    """Begins, finds and ends sessions. Thread-safe; finding one waits for no disk."""

    def __init__(self, core: Core, logins: Logins) -> None:
        self._core, self._logins, self._key = core, logins, secrets.token_bytes(_BYTES)
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = Lock()

    def begin(self, shown: bytes, peer: str, before: bytes | None = None) -> Secret:
        """Log the browser at the address `peer` in by the token that it has `shown`; the cookie of its session. The one
        that it had `before` ends.

        Raises Unauthenticated, TooMany, and Unavailable also when the audit log cannot have it.
        """
        return self.begin_by(self._logins.token(shown, peer), peer, before)

    def begin_by(self, shown: Token | Ticket, peer: str, before: bytes | None = None) -> Secret:
        """The same by a token or a ticket that has just been found good. Raises Unavailable."""
        self._core.note("login", shown.principal, channel="api", address=peer)
        self.end(before)
        cookie, now = Secret(secrets.token_urlsafe(_BYTES).encode()), self._core.clock()
        with self._lock:
            self._sessions[self._digest(cookie.reveal())] = Session(shown, now, now)
            if len(self._sessions) > MOST:
                del self._sessions[self._to_end()]
        return cookie

    def _to_end(self) -> bytes:
        """The session that ends for a new one: nobody logs others out by logging in again and again."""
        counts = Counter(session.shown.name for session in self._sessions.values())
        most = max(counts.values())
        return next(digest for digest, session in self._sessions.items() if counts[session.shown.name] == most)

    def find(self, cookie: bytes | None, peer: str) -> Principal:
        """Whose session it is; from now on it is idle again. Raises Unauthenticated, TooMany, Unavailable."""
        self._logins.require_ground()
        now = self._core.clock()
        if cookie is None:
            raise Unauthenticated("request", "belongs to no session", "log in with a token")
        digest = self._digest(cookie)
        with self._lock:
            session = self._sessions.get(digest)
            if session is not None and self._is_good(session, now):
                session.used = now
                self._sessions.move_to_end(digest)
                if isinstance(session.shown, Token):
                    self._core.store.tokens.used(session.shown, now)
                return session.shown.principal
            self._sessions.pop(digest, None)
        if session is not None:
            raise Unauthenticated("session", "has ended", _LOG_IN)
        raise self._logins.failed(peer, now)

    def lives(self, cookie: bytes | None) -> bool:
        """Whether it is a session still. Asking does not keep it."""
        ground = self._core.ground
        if cookie is None or ground.distrust or ground.behind:
            return False
        session = self._sessions.get(self._digest(cookie))
        return session is not None and self._is_good(session, self._core.clock())

    def end(self, cookie: bytes | None) -> None:
        """Log out."""
        with self._lock:
            session = self._sessions.pop(self._digest(cookie), None) if cookie is not None else None
        if session is not None:
            session.left = True
            self._core.note("logout", session.shown.principal, channel="api")

    def standing(self, cookie: bytes | None) -> Callable[[], None]:
        """What raises Unauthenticated when somebody has logged out. Being idle ends nothing that has begun, and whoever
        is known without a cookie has nothing to leave."""
        session = self._sessions.get(self._digest(cookie)) if cookie is not None else None

        def require() -> None:
            if cookie is not None and (session is None or session.left):
                raise Unauthenticated("session", "has ended", _LOG_IN)

        return require

    def close(self) -> None:
        """End all of them, and with them their streams."""
        with self._lock:
            self._sessions.clear()

    @contextmanager
    def stream(self, cookie: bytes | None) -> Iterator[None]:
        """While a stream of events is open; raises TooMany when the session has STREAMS already."""
        session = self._sessions.get(self._digest(cookie)) if cookie is not None else None
        if session is None:
            yield
            return
        if session.streams >= STREAMS:
            fact = f"it has {STREAMS} streams of events open already"
            raise TooMany("session", fact, "close some of its pages", int(IDLE.total_seconds()))
        session.streams += 1
        try:
            yield
        finally:
            session.streams -= 1

    def form_key(self, cookie: bytes | None) -> str:
        """What a form has to carry to be from one of the session's own pages; hexadecimal."""
        return hmac.digest(self._key, b"form " + (cookie or b""), hashlib.sha256).hex()

    def send(self, cookie: bytes | None, form: str) -> bool:
        """Note that this one copy of a form was sent; False when it had been before: somebody has clicked twice."""
        with self._lock:
            session = self._sessions.get(self._digest(cookie)) if cookie is not None else None
            if session is None:
                return True
            if form in session.sent:
                return False
            session.sent[form] = None
            if len(session.sent) > _SENT:
                session.sent.popitem(last=False)
            return True

    def unsend(self, cookie: bytes | None, form: str) -> None:
        """Nothing was done by that copy of a form, so it may be sent again."""
        with self._lock:
            session = self._sessions.get(self._digest(cookie)) if cookie is not None else None
            if session is not None:
                session.sent.pop(form, None)

    def _is_good(self, session: Session, now: datetime) -> bool:
        fresh = abs(now - session.used) < IDLE and abs(now - session.begun) < LONGEST
        shown = session.shown
        return fresh and shown.is_good(now) and (isinstance(shown, Ticket) or self._core.store.tokens.holds(shown))

    def _digest(self, cookie: bytes) -> bytes:
        # How long a comparison of these takes teaches nobody: without the key, no digest can be chosen.
        return hmac.digest(self._key, b"session " + cookie, hashlib.sha256)


def parse(text: bytes) -> bytes | None:
    """What has the form of a session's cookie."""
    return text if _COOKIE.fullmatch(text) else None
