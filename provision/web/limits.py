"""What one listener takes: from whom, how much, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

ORDINARY = 16 * 1024
"""Bytes of a header that every connection may have at the same time."""


@dataclass(frozen=True)
class Operators:
    """Who may speak on the Unix socket: these user ids, and members of the group `gid`."""

    uids: frozenset[int]
    gid: int | None = None


@dataclass(frozen=True)
class Limits:
    """Bounds of one listener, in bytes, seconds and connections. `body` None means as much as the application reads.

    `header` is of one request; of those that have more than `ORDINARY`, a listener takes `large` at a time.
    `fields` is how many header fields a request has at most: each costs some hundred bytes, however short it is.
    `stall` is how long a response or a request's body may make no progress, `body_seconds` how long a body may take in
    all. `ahead` is how much is held of what comes while a request is answered. `operators` is for Unix sockets.
    `authenticated` is for listeners whose application answers at length only whom it knows, by a credential.
    """

    header: int = ORDINARY
    large: int = 64
    header_seconds: float = 10.0
    fields: int = 100
    body: int | None = 64 * 1024
    body_seconds: float | None = None
    idle: int = 30
    stall: float = 60.0
    connections: int = 2048
    per_peer: int = 64
    ahead: int = 4096
    operators: Operators | None = None
    authenticated: bool = False

    @property
    def strangers(self) -> bool:
        """Whether who takes long answers may be anybody. Others are few and known, and want it fast."""
        return self.operators is None and not self.authenticated


@dataclass(frozen=True)
class HandshakeLimits:
    """Bounds of TLS handshakes of one listener: seconds of each, connections in one of them in all and of one peer,
    and how many begin in a second, when more than `burst` want to. Each costs a signature."""

    seconds: float = 10.0
    connections: int = 512
    per_peer: int = 64
    rate: float = 100.0
    burst: int = 50
