"""What is remembered of machines for a while, bounded on each network by itself."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

LIMIT = 4096
"""Machines remembered of one network; of more, the one that was noted longest ago goes."""

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by network and MAC. What one network sends never makes another's forgotten."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._networks: dict[str, OrderedDict[str, Value]] = {}

    def get(self, network: str, mac: str) -> Value | None:
        """What is remembered of the machine, or None."""
        known = self._networks.get(network)
        return known.get(mac) if known else None

    def put(self, network: str, mac: str, value: Value) -> None:
        """Remember it as the newest."""
        known = self._networks.setdefault(network, OrderedDict())
        known[mac] = value
        known.move_to_end(mac)
        if len(known) > self._limit:
            known.popitem(last=False)

    def forget(self, network: str, mac: str) -> None:
        """Remember nothing of the machine; no error when nothing was."""
        if network in self._networks:
            self._networks[network].pop(mac, None)

    def values(self) -> list[Value]:
        """All that is remembered, by network, the newest last."""
        return [value for known in list(self._networks.values()) for value in list(known.values())]
