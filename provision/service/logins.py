"""Who asks from elsewhere: tokens are looked up, and those who try in vain are counted and slowed down.

Whoever shows a token that is good is let in whatever others do behind the same address: 256 random bits are not found
by trying, so that a bound on trying protects the log and the processor, not the token.
"""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address

from provision import token
from provision.errors import ProvisionError, TooMany, Unauthenticated, Unavailable
from provision.principal import Principal
from provision.service.core import Core
from provision.service.denial_limiter import STRANGERS_A_DAY, MinuteLimiter
from provision.service.guesses import Guesses, group
from provision.store.bounds import Bound
from provision.token import Token

_BOUND = Bound("failed logins", STRANGERS_A_DAY, frozenset(("event", "channel")))
_UNKNOWN = IPv4Address(0)


class Logins:
    """Finds out who asks. `known` is quick; whatever is in vain is recorded, and that may wait for the disk: others
    hold the audit log while theirs is synced."""

    def __init__(self, core: Core) -> None:
        self._core, self._guesses = core, Guesses()
        self._told_apart = MinuteLimiter()

    def by_token(self, shown: bytes | None, peer: str) -> Principal:
        """Whoever at the address `peer` has `shown` a token, or nothing. Raises like `token`."""
        return self.token(shown, peer).principal

    def token(self, shown: bytes | None, peer: str) -> Token:
        """The good token that somebody at the address `peer` has `shown`. One that is none waits for the audit log.

        Raises Unauthenticated, TooMany, and Unavailable while store or clock are not to be relied on.
        """
        known = self._good(shown)
        if known is None:
            raise self.failed(peer, self._core.clock())
        return known

    def known(self, shown: bytes | None) -> Principal | None:
        """Whoever has `shown` a good token; None when it is none. Raises Unavailable, as `token`. Quick."""
        known = self._good(shown)
        return known.principal if known is not None else None

    def _good(self, shown: bytes | None) -> Token | None:
        self.require_ground()
        store, now = self._core.store, self._core.clock()
        secret = token.parse(shown) if shown is not None else None
        known = store.tokens.find(secret) if secret is not None else None
        if known is None or not known.is_good(now):
            return None
        store.tokens.used(known, now)
        return known

    def require_ground(self) -> None:
        """Raise Unavailable while store or clock are not to be relied on."""
        ground = self._core.ground
        if ground.distrust or ground.behind:
            # What is wrong is for those to know who may look at it.
            raise Unavailable("tokens", "cannot be checked now", "see 'provision status' on the server")

    def failed(
        self, peer: str, now: datetime, answer: ProvisionError | None = None, reason: str | None = None
    ) -> ProvisionError:
        """Count and record one that was in vain, for that `reason`, and return what to say: `answer`, or TooMany."""
        address = _address(peer)
        self._record(group(address), now, reason)
        try:
            self._guesses.require(address)
        except TooMany as error:
            return error
        self._guesses.note(address)
        known = Unauthenticated("request", "has no valid token", "log in with 'provision login', or show another token")
        return answer or known

    def _record(self, place: str, now: datetime, reason: str | None) -> None:
        event = {"time": now, "event": "login-failed", "channel": "api", "address": place, "reason": reason}
        if not self._told_apart.admit((place,), now):
            event |= {"address": None, "reason": "too many different peers; these are counted only"}
        self._core.audit.record(event, bound=_BOUND)
        self._core.tally.refused("login-failed", "api")


def _address(peer: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(peer)
    except ValueError:
        return _UNKNOWN
