"""One MAC on two networks at a time: a machine that has another's address, or a cable that joins two LANs.

This is what a server can see of it. Two machines with one MAC on the same LAN look like one, and only the LAN's switch
can tell them apart.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from provision.service.core import Core
from provision.service.denial_limiter import reporting
from provision.service.origin import Origin
from provision.service.recent import Recent

AT_A_TIME = timedelta(minutes=10)
"""Requests that are no further apart are of one time: a cable that was put elsewhere takes longer, with its machine."""
_MINUTES = AT_A_TIME.seconds // 60
_AGAIN = timedelta(hours=1)


class Duplicates:
    """Notes where machines ask. In memory, and bounded for each network."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._seen, self._told = Recent[datetime](), Recent[datetime]()
        self._networks: set[str] = set()

    def note(self, origin: Origin) -> None:
        """A machine asks; the audit log says so when it asked elsewhere a moment ago, and its host's status. Raises
        Unavailable."""
        mac, network, now = origin.requester.mac, origin.channel.network, self._core.clock()
        if mac is None or network is None or origin.requester.local:
            return
        self._seen.put(network, mac, now)
        self._networks.add(network)
        others = [name for name in sorted(self._networks) if name != network and self._was_there(name, mac, now)]
        if not others or self._belongs(mac, {network, *others}):
            return
        host = self._core.store.snapshot.by_mac.get(mac)
        if host is not None:
            fact = f"{mac} has asked on network {network} and on {' and '.join(others)} within {_MINUTES} minutes"
            text = f"{fact}. Find the second machine with this MAC, or the cable that joins the networks."
            self._core.alerts.raise_(host, "duplicate-mac", text, now)
        told = self._told.get(network, mac)
        if told is None or abs(now - told) >= _AGAIN:
            self._told.put(network, mac, now)
            self._tell(origin, host, mac, others)

    def _was_there(self, network: str, mac: str, now: datetime) -> bool:
        seen = self._seen.get(network, mac)
        return seen is not None and abs(now - seen) < AT_A_TIME

    def _belongs(self, mac: str, networks: set[str]) -> bool:
        """Whether the inventory has this NIC on all of these networks, with VLANs."""
        name = self._core.store.snapshot.by_mac.get(mac)
        host = self._core.hosts.get(name) if name is not None else None
        own = {i.network for i in host.interfaces.values() if mac in i.macs} if host is not None else set()
        return networks <= own

    def _tell(self, origin: Origin, host: str | None, mac: str, others: list[str]) -> None:
        core = self._core
        about = {
            "event": "duplicate-mac",
            "host": host,
            "mac": mac,
            "network": origin.channel.network,
            "address": str(origin.requester.address) if origin.requester.address else None,
            "reason": f"it asked on network {' and '.join(others)}, too, within {_MINUTES} minutes",
        }
        core.audit.record({"time": core.clock(), **about}, counted=False, bound=reporting(origin.channel.network))
