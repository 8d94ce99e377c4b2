"""Every host's charged boots from the network, which decisions ask for, in memory as far as they were asked for."""

from __future__ import annotations

from threading import Lock

from provision.boot import Boot
from provision.store.store import Store


class Charged:
    """Charged boots by host, until something has made them old. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._known: dict[str, tuple[Boot, ...]] = {}
        # How often something was forgotten: what was being read meanwhile may be old.
        self._forgotten = 0

    def of(self, host: str) -> tuple[Boot, ...]:
        """The host's boots that are charged and not up. Raises NotFound."""
        known = self._known.get(host)
        if known is not None:
            return known
        before = self._forgotten
        boots = self._store.boots.of(host)
        found = tuple(boot for boot in boots if boot.charged and not boot.up and boot.medium.from_network)
        with self._lock:
            if before == self._forgotten:
                self._known[host] = found
        return found

    def forget(self, host: str) -> None:
        """Read the host's again: a boot of it was charged, or is up."""
        with self._lock:
            self._known.pop(host, None)
            self._forgotten += 1

    def forget_all(self) -> None:
        """Hosts have changed: keep nothing."""
        with self._lock:
            self._known.clear()
            self._forgotten += 1
