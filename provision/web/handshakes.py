"""Connections that are not TLS yet, and whose place goes to a newcomer when there is none: pure bookkeeping.

None of them has done anything by which it could be told from an attack. So all that counts is how many a peer has.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator


class Handshake:
    """One of them: its socket, and the peer that it counts for."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.sock, self.peer = sock, peer
        self.task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Break it off."""
        if self.task is not None:
            self.task.cancel()


class Handshakes:
    """All of a listener: `total` at most, and `per_peer` of one peer."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total, self._per_peer = total, per_peer
        self._peers: dict[str, dict[Handshake, None]] = {}  # each in the order in which they came
        self._count = 0

    def __iter__(self) -> Iterator[Handshake]:
        return (one for own in self._peers.values() for one in own)

    def __len__(self) -> int:
        return self._count

    def admit(self, new: Handshake) -> tuple[bool, Handshake | None]:
        """Whether `new` gets a place, and who has lost one for it: the caller ends that.

        A peer has its newest wishes, and no peer keeps others out by having more than they: its oldest goes.
        """
        own, victim = self._peers.get(new.peer, {}), None
        if len(own) >= self._per_peer:
            victim = next(iter(own))
        elif self._count >= self._total:
            most = max(self._peers.values(), key=len)
            if len(most) <= len(own) + 1:
                return False, None
            victim = next(iter(most))
        if victim is not None:
            self.leave(victim)
        self._peers.setdefault(new.peer, {})[new] = None
        self._count += 1
        return True, victim

    def leave(self, one: Handshake) -> None:
        """A place is free again; harmless when `one` has none."""
        own = self._peers.get(one.peer, {})
        if one not in own:
            return
        del own[one]
        self._count -= 1
        if not own:
            del self._peers[one.peer]
