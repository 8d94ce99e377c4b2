"""Sessions of browsers: who logged in with a token or a ticket, for as long as that is good and somebody is there.

A session is known by a cookie of 256 random bits, of which only an HMAC is kept, in memory: it ends with the process.
It can do what its token or ticket can, and ends when that one is revoked or expires.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
"""Sessions that there are at a time; of more, the one that was used longest ago ends."""
OF_ONE = 50
"""Sessions that one principal may have at a time, so that nobody ends all others' by logging in again and again."""
STREAMS = 6
"""Streams of events that one session may have open: a browser opens no more connections to one server."""

_BYTES = 32
_COOKIE = re.compile(rb"[A-Za-z0-9_-]{43}")
_LOG_IN = "log in again"


@dataclass
class Session:
    """One browser that is logged in by what it has `shown`, since `begun`, and asked last at `used`."""

    shown: Token | Ticket
    begun: datetime
    used: datetime
    streams: int = 0


class Sessions:
    """Begins, finds and ends sessions. Thread-safe; finding one waits for no disk."""

    def __init__(self, core: Core, logins: Logins) -> None:
        self._core, self._logins, self._key = core, logins, secrets.token_bytes(_BYTES)
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = Lock()

    def begin(self, shown: bytes, peer: str) -> Secret:
        """Log the browser at the address `peer` in by the token that it has `shown`; the cookie of its session.

        Raises Unauthenticated, TooMany, and Unavailable also when the audit log cannot have it.
        """
        return self.begin_by(self._logins.token(shown, peer), peer)

    def begin_by(self, shown: Token | Ticket, peer: str) -> Secret:
        """The same by a token or a ticket that has just been found good. Raises Unavailable."""
        self._core.note("login", shown.principal, channel="api", address=peer)
        cookie, now = Secret(secrets.token_urlsafe(_BYTES).encode()), self._core.clock()
        with self._lock:
            own = [known for known, one in self._sessions.items() if one.shown.name == shown.name]
            if len(own) >= OF_ONE:
                del self._sessions[own[0]]
            self._sessions[self._digest(cookie.reveal())] = Session(shown, now, now)
            if len(self._sessions) > MOST:
                self._sessions.popitem(last=False)
        return cookie

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

    def end(self, cookie: bytes | None, principal: Principal) -> None:
        """Log out."""
        if cookie is not None and self._sessions.pop(self._digest(cookie), None) is not None:
            self._core.note("logout", principal, channel="api")

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
