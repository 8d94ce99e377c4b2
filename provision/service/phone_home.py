"""The last word of a boot: the host itself says that it is up."""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from provision.boot import Boot, Channel, Copy
from provision.errors import Conflict, Denied
from provision.service.alive import Message
from provision.service.clones import Clones
from provision.service.core import Core
from provision.service.denial_limiter import reporting
from provision.service.identities import Identities
from provision.service.news import News
from provision.service.progress import Tracker
from provision.service.reads import Reads
from provision.service.updates import Updates


class PhoneHome:
    """Takes phone-home messages."""

    def __init__(self, core: Core, tracker: Tracker, reads: Reads, updates: Updates) -> None:
        self._core, self._tracker, self._reads, self._updates = core, tracker, reads, updates
        self._news, self._clones = News(core), Clones(core)
        self._identities = Identities(core, tracker, self._news)
        # What hosts said last, and which state of the store that was said to.
        self._last: dict[str, tuple[int, tuple[str, ...]]] = {}

    def up(self, host: str, key: bytes, channel: Channel | None = None) -> Boot:
        """The booted host says that it is up, once, with the key from its seed; this closes its window.

        Raises Denied for a key that no boot of the host has, Conflict when the key has been used.
        """
        known, now = host if host in self._core.hosts else None, self._core.clock()
        boot = self._reporting(host, key) if known else None
        if boot is None:
            where = str(channel) if channel else None
            refused = {"time": now, "event": "up", "host": known, "channel": where, "answer": "denied"}
            self._core.audit.record(refused | {"rule": "phone-home"}, bound=reporting(where))
            self._core.tally.refused("phone-home", where or "")
            raise Denied("up", "the key fits no boot of this host", "boot the host again", "phone-home")
        done = self._came_up(boot, now)
        self._core.alive.booted(host, boot.label, now)
        self._count(done, now)
        return done

    def _came_up(self, boot: Boot | Copy, now: datetime) -> Boot:
        """Note it, once; raises Conflict."""
        host, mac = boot.host, boot.mac if isinstance(boot, Boot) else None
        said = Conflict(host, "this boot has already said that it is up", "nothing needs to be done")
        if self._is_up(boot):
            raise said
        # What cannot be recorded does not happen, and the host says it again.
        with self._core.act("up", None, host=host, mac=mac, medium=str(boot.medium)):
            done = self._mark_up(boot, now)
            if done is None:
                raise said
        self._core.witness()
        self._reads.forget(host)
        self._core.charged.forget(host)
        self._tracker.update(done)
        return done

    def _first_word(self, message: Message, now: datetime) -> None:
        """A host without a management network has no key to say once that it is up, which others would read: its first
        word from a medium says so."""
        copy = Copy.labelled(message.host, message.boot)
        if copy is not None and not self._core.endpoints.has_management(self._core.hosts[message.host]):
            with suppress(Conflict):
                self._came_up(copy, now)

    def _count(self, boot: Boot, now: datetime) -> None:
        window = self._core.store.windows.of(boot.host)
        if window is not None and window.id == boot.window and window.opened is not None and window.opened <= now:
            self._core.tally.came_up((now - window.opened).total_seconds())

    def is_news(self, message: Message) -> bool:
        """Whether `alive` may have something to write, which takes milliseconds: all but what a host that is up has
        said before, to what is stored now. A word that is forged or old is news, for that is written down."""
        core, name = self._core, message.host
        host = core.hosts.get(name)
        if host is None or not message.up:
            return True
        if self._last.get(name) != (core.store.database.generation, _gist(message)):
            return True
        # Its first word may be this one; it may have been silent about its slots for too long.
        first = Copy.labelled(name, message.boot) is not None and not core.endpoints.has_management(host)
        silent = not message.slots and core.store.slots.of(name) is not None
        if first or silent or self._identities.is_news(message) or not core.alive.is_later(message):
            return True
        return not message.is_genuine(core.store.keys.alive(name, message.boot).reveal())

    def alive(self, message: Message, channel: Channel | None = None) -> dict[str, str] | None:
        """A booted host says that it is still up, or that it goes down. While it is up, nobody gets its seed. Returns
        what it is to do, if anything, with a tag that only this server can make.

        Raises Denied when it is not signed with the key of that boot, or is no newer than what was heard before,
        TooMany when it says too much that is new, and Invalid for what it cannot say.
        """
        core, now = self._core, self._core.clock()
        known, generation = message.host if message.host in core.hosts else None, core.store.database.generation
        key = core.store.keys.alive(known, message.boot).reveal() if known else b""
        genuine = known and message.is_genuine(key)
        if not genuine or not core.alive.take(message, now):
            where = str(channel) if channel else None
            refused = {"time": now, "event": "alive", "host": known, "channel": where, "answer": "denied"}
            core.audit.record(refused | {"rule": "alive"}, bound=reporting(where))
            core.tally.refused("alive", where or "")
            fact = "was heard before" if genuine else "is not signed with the key of that boot"
            raise Denied("alive", fact, "see docs/media-format.md", "alive")
        self._last.pop(message.host, None)  # until all of this is taken down
        self._clones.look(message.host, channel, now)
        if not message.up:
            with self._news.of(message):
                core.note("down", None, host=message.host)
            return None
        self._first_word(message, now)
        update = self._updates.said(message, now, self._news)
        ordered = self._identities.said(message, now).value or update
        self._remember(message, generation)
        return {"order": ordered, "tag": message.order(key, ordered)} if ordered else None

    def _remember(self, message: Message, generation: int) -> None:
        self._last[message.host] = generation, _gist(message)
        if len(self._last) > 2 * len(self._core.hosts):
            self._last = {host: said for host, said in list(self._last.items()) if host in self._core.hosts}

    def _is_up(self, boot: Boot | Copy) -> bool:
        if isinstance(boot, Boot):
            return boot.up is not None
        return self._core.store.boots.is_copy_up(boot)

    def _reporting(self, host: str, key: bytes) -> Boot | Copy | None:
        """What the host with this phone-home key has booted."""
        store = self._core.store
        for boot in store.boots.of(host):
            if hmac.compare_digest(store.keys.phone_home(boot.id, host).reveal(), key):
                return boot
        return store.keys.copy_of(host, key)

    def _mark_up(self, boot: Boot | Copy, now: datetime) -> Boot | None:
        if isinstance(boot, Copy):
            return self._core.store.boots.mark_copy_up(boot, now)
        return replace(boot, up=now) if self._core.store.boots.mark_up(boot, now) else None


def _gist(message: Message) -> tuple[str, ...]:
    """What of it stays the same while there is nothing new."""
    return message.boot, message.run, message.identity, message.slots
