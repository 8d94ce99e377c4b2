"""Where a machine's request came in, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from provision.boot import Channel, Requester
from provision.net.pins import Pin


@dataclass(frozen=True)
class Origin:
    """Where a request came in and who asks, as the edge found out; `port` is the HTTP port of that channel.

    `pin` keeps the requester's address at its MAC, for an answer that holds a secret.
    """

    channel: Channel
    requester: Requester
    port: int = 80
    pin: Pin | None = None

    def release(self) -> None:
        """Let go of the pin when there will be no answer that uses it."""
        if self.pin is not None:
            self.pin.release()

    @property
    def base_url(self) -> str:
        """The URL of this server on that channel, from the socket and never from a Host header."""
        return _base_url(self.channel.address, self.port)


@lru_cache(maxsize=256)
def _base_url(address: IPv4Address | None, port: int) -> str:
    return f"http://{address}" if port == 80 else f"http://{address}:{port}"
