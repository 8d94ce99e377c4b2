"""What hosts say of themselves that was not known before, taken down one after the other and not too often.

A host that is up signs what it says, but its root may be anybody by now, who could fill the log and the disk with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from provision.errors import Denied, TooMany
from provision.service.alive import Message
from provision.service.core import Core

AT_ONCE = 60
"""So much news of a host is taken at once, ..."""
SECONDS = 60.0
"""... and one more after so many seconds. An update of its image is half a dozen."""


class News:
    """Takes it down."""

    def __init__(self, core: Core, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._core, self._now = core, monotonic
        self._spent: dict[str, tuple[float, float]] = {}

    @contextmanager
    def of(self, message: Message) -> Iterator[None]:
        """While this is taken down, nobody changes what is known of the host: what is written rests on what was read
        within. Raises Denied for a message of a boot that counts no longer, as after a move, and TooMany."""
        with self._core.lock:
            if message.host not in self._core.hosts or not message.is_genuine(self._key(message)):
                raise Denied("alive", "is not signed with the key of that boot", "see docs/media-format.md", "alive")
            self._count(message.host)
            yield

    def _key(self, message: Message) -> bytes:
        return self._core.store.keys.alive(message.host, message.boot).reveal()

    def _count(self, host: str) -> None:
        now = self._now()
        spent, since = self._spent.get(host, (0.0, now))
        spent = max(0.0, spent - (now - since) / SECONDS)
        if spent > AT_ONCE - 1:
            raise TooMany(host, "says something new too often", "it says it again", int(SECONDS))
        self._spent[host] = spent + 1, now
        if len(self._spent) > 2 * len(self._core.hosts):
            self._spent = {name: one for name, one in self._spent.items() if name in self._core.hosts}
