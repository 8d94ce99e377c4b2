"""Ends a connection of which OpenSSL goes on reading and has nothing for us, while all others wait.

It reads records that are not ours, as new keys of TLS 1.3, until one is or the socket is empty. A peer makes them as
fast as they are taken, and nobody can tell from outside which they are: only that a call does not come back.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from provision.web.peer import reset

_SECONDS = 0.25


class Stuck:
    """Looks after one event loop, in a thread of its own, from `start` to `stop`. `reading` is the socket that OpenSSL
    reads at this moment, in a tuple of its own for each call; None for none."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self.reading: tuple[socket.socket] | None = None
        self._seconds, self._over = seconds, threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._look, name="stuck", daemon=True).start()

    def stop(self) -> None:
        """Look no more; harmless when said before."""
        self._over.set()

    def _look(self) -> None:
        before = None
        while not self._over.wait(self._seconds):
            now = self.reading
            if now is not None and now is before:
                with suppress(OSError):
                    reset(now[0])  # its next read fails
            before = now
