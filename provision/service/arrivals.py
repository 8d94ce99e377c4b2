"""The last word of a boot: the host itself says that it is up."""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import datetime

from provision.boot import Boot, Copy
from provision.errors import Conflict, Denied
from provision.service.core import Core
from provision.service.progress import Tracker


class Arrivals:
    """Takes phone-home messages."""

    def __init__(self, core: Core, tracker: Tracker) -> None:
        self._core, self._tracker = core, tracker

    def up(self, host: str, key: bytes) -> Boot:
        """The booted host says that it is up, once, with the key from its seed; this closes its window.

        Raises Denied for a key that no boot of the host has, Conflict when the key has been used.
        """
        known, now = host if host in self._core.hosts else None, self._core.clock()
        boot = self._reporting(host, key) if known else None
        if boot is None:
            refused = {"time": now, "event": "up", "host": known, "answer": "denied", "rule": "phone-home"}
            self._core.audit.record(refused)
            raise Denied("up", "the key fits no boot of this host", "boot the host again", "phone-home")
        said = Conflict(host, "this boot has said already that it is up", "nothing is to be done")
        if self._is_up(boot):
            raise said
        # Recorded first: what cannot be recorded does not happen, and the host says it again.
        self._core.note(
            "up", None, host=host, mac=boot.mac if isinstance(boot, Boot) else None, medium=str(boot.medium)
        )
        done = self._mark_up(boot, now)
        if done is None:
            raise said
        self._core.forget_boot(host)
        self._tracker.update(done)
        return done

    def _is_up(self, boot: Boot | Copy) -> bool:
        if isinstance(boot, Boot):
            return boot.up is not None
        return self._core.store.is_copy_up(boot)

    def _reporting(self, host: str, key: bytes) -> Boot | Copy | None:
        """What the host with this phone-home key has booted."""
        store = self._core.store
        for boot in store.boots(host):
            if hmac.compare_digest(store.phone_home_key(boot.id, host).reveal(), key):
                return boot
        return store.copy_of(host, key)

    def _mark_up(self, boot: Boot | Copy, now: datetime) -> Boot | None:
        if isinstance(boot, Copy):
            return self._core.store.mark_copy_up(boot, now)
        return replace(boot, up=now) if self._core.store.mark_up(boot, now) else None
