"""Who asks from elsewhere: tokens are looked up, and those who try in vain are counted and slowed down.

Whoever shows a token that is good is let in whatever others do behind the same address: 256 random bits are not found
by trying, so that a bound on trying protects the log and the processor, not the token.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address

from provision import token
from provision.errors import TooMany, Unauthenticated, Unavailable
from provision.principal import Principal
from provision.service.core import Core
from provision.service.denial_limiter import STRANGERS_A_DAY, MinuteLimiter
from provision.store.bounds import Bound

TRIES = 20
"""How often a minute a peer may ask in vain; then it is told to wait."""
PEERS = 4096
"""Peers that are told apart; of more, the one that failed longest ago is forgotten."""

_MINUTE = timedelta(minutes=1)
_BOUND = Bound("failed logins", STRANGERS_A_DAY, frozenset(("event", "channel")))


class Logins:
    """Finds out who asks. Quick: nothing here waits for a disk."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._failures: OrderedDict[str, tuple[datetime, int]] = OrderedDict()
        self._told_apart = MinuteLimiter()

    def by_token(self, shown: bytes | None, peer: str) -> Principal:
        """Whoever at the address `peer` has `shown` a token, or nothing.

        Raises Unauthenticated, TooMany, and Unavailable while store or clock are not to be relied on.
        """
        core, now = self._core, self._core.clock()
        ground = core.ground
        if ground.distrust or ground.behind:
            # What is wrong is for those to know who may look at it.
            raise Unavailable("tokens", "cannot be checked now", "see 'provision status' on the server")
        secret = token.parse(shown) if shown is not None else None
        known = core.store.tokens.find(secret) if secret is not None else None
        if known is not None and known.is_good(now):
            core.store.tokens.used(known, now)
            return known.principal
        raise self.failed(peer, now)

    def failed(self, peer: str, now: datetime) -> Unauthenticated | TooMany:
        """Count and record one that was in vain, and return what to say."""
        place = _place(peer)
        since, count = self._failures.pop(place, (now, 0))
        if not timedelta() <= now - since < _MINUTE:
            since, count = now, 0
        self._failures[place] = since, count + 1
        if len(self._failures) > PEERS:
            self._failures.popitem(last=False)
        self._record(place, now)
        if count >= TRIES:
            wait = max(1, int((since + _MINUTE - now).total_seconds()) + 1)
            return TooMany("request", "there were too many without a valid token", f"wait {wait} seconds", wait)
        return Unauthenticated("request", "has no valid token", "log in with 'provision login', or show another token")

    def _record(self, place: str, now: datetime) -> None:
        event = {"time": now, "event": "login-failed", "channel": "api", "address": place}
        if not self._told_apart.admit((place,), now):
            event |= {"address": None, "reason": "too many different peers; these are counted only"}
        self._core.audit.record(event, bound=_BOUND)


def _place(peer: str) -> str:
    """Whom an address stands for: an IPv6 one for its whole /64, which any machine in it can fill with others."""
    try:
        address = ip_address(peer)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)
