"""How often a peer may ask in vain for what only somebody with a secret gets."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_network

from provision.errors import TooMany

AT_ONCE = 10
"""Vain requests of a peer that are answered like any other; the next has to wait."""

SECONDS = 60.0
"""How long they count."""

_PEERS = 4096
_SUBNET = 64


class Guesses:
    """Vain requests by peer: an IPv4 address, or a subnet of IPv6, whose addresses cost nothing (RFC 6177)."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def require(self, peer: IPv4Address | IPv6Address) -> None:
        """Raise TooMany when the peer has asked in vain too often."""
        since, count = self._failed.get(group(peer), (0.0, 0))
        left = since + SECONDS - self._now()
        if count >= AT_ONCE and left > 0:
            raise TooMany(
                "request", f"{AT_ONCE} attempts from this address have failed", "wait a minute", math.ceil(left)
            )

    def note(self, peer: IPv4Address | IPv6Address) -> None:
        """The peer has asked in vain."""
        place, now = group(peer), self._now()
        since, count = self._failed.pop(place, (now, 0))
        self._failed[place] = (since, count + 1) if now - since < SECONDS else (now, 1)
        if len(self._failed) > _PEERS:
            self._failed.popitem(last=False)


def group(peer: IPv4Address | IPv6Address) -> str:
    """Whom an address stands for."""
    return str(peer) if isinstance(peer, IPv4Address) else str(ip_network((int(peer), _SUBNET), strict=False))
