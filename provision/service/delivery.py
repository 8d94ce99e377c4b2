"""Secret bytes on their way to one machine: whether they may still go, and what they cost once they have arrived.

A release is decided in one moment, and its bytes take longer. So every piece is preceded by a look at whether anything
that the decision rested on has changed, and a window is charged only when the machine itself has acknowledged a byte:
who merely asks in its name costs it nothing.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from threading import Lock

from provision.boot import Boot
from provision.errors import Gone
from provision.host import Netboot
from provision.media.plan import Plan
from provision.net.pins import Pin
from provision.policy import HostState, Release
from provision.seed import Seed
from provision.service.core import Core
from provision.store.snapshot import Snapshot

PATIENCE_SECONDS = 3.0
"""How long a boot waits for an earlier one to be acknowledged, when its window has no room for both."""

_TURN_SECONDS = 0.01


class Delivery:
    """One answer that holds a seed: `what` is the seed itself, or a medium in which it begins at the byte `at`.

    Safe to use from any thread. `end` has to be called, whatever has become of it.
    """

    def __init__(
        self,
        core: Core,
        state: HostState,
        release: Release,
        boot: Boot,
        what: Seed | Plan,
        at: int,
        pin: Pin | None,
        charge: Callable[[], None],
        taken: Callable[[int, int, int], None] = lambda first, last, size: None,
    ) -> None:
        """`charge` charges the boot, and `taken` is told of a part of the seed that the machine has: from which byte up
        to which, of how many."""
        self.host, self.boot, self.what, self._release, self._at = state.host.name, boot, what, release, at
        self._core, self._identity, self._pin = core, state.identity, pin
        self._charge, self._taken = charge, taken
        self._secret = core.payload_of_seed(state, release.channel).secrets_in_clear
        self._seen: Snapshot | None = None
        self.void = self.arrived = self.charged = self.ended = False
        self.since = math.inf
        self.deliveries: Deliveries | None = None

    @property
    def data(self) -> bytes:
        """The bytes of a seed."""
        if not isinstance(self.what, Seed):
            raise TypeError("a medium is never in memory")
        return self.what.data

    @property
    def plan(self) -> Plan:
        """The plan of a medium."""
        if not isinstance(self.what, Plan):
            raise TypeError("a seed has no plan")
        return self.what

    def first_secret(self, sent: range) -> int | None:
        """The first byte of the seed among the bytes `sent` of it all, or None when they hold none of it."""
        if isinstance(self.what, Plan):
            return self.what.first_of(self._at, sent)
        return sent.start if sent else None

    def giving(self, sent: range) -> None:
        """These bytes of it are about to leave; the audit log counts them."""
        if sent and isinstance(self.what, Plan):
            self._core.decisions.gave(self._release, sent)

    def taken(self, sent: range) -> None:
        """The machine has, or may have, these bytes of it all."""
        if isinstance(self.what, Plan):
            part = self.what.of_patch(self._at, sent)
            size = len(self.what.of_patch(self._at, range(self.what.size)))
            first, last = part.start, part.stop
        else:
            size = len(self.what.data)
            first, last = max(0, sent.start), min(size, sent.stop)
        if first < last:
            if self._secret:
                self._core.tally.gave(str(self._release.channel), last - first)
            self._taken(first, last, size)

    def check(self) -> None:
        """Raises Gone when a byte may not go any more: the machine is no longer pinned, or the host, its network or its
        window is not what the release was for."""
        if self.void or (self._pin is not None and self._pin.lost):
            raise Gone(self.host, "what it asked for has been withdrawn", "power-cycle the host")
        present = self._core.store.snapshot
        if present is not self._seen:
            self._require_unchanged(present)
            self._seen = present
        window = self._core.store.windows.of(self.host)
        if window is not None and window.closed and present.hosts[self.host].netboot is Netboot.WINDOW:
            raise Gone(self.host, "its boot window has been closed", f"open one: 'provision window {self.host}'")

    def _require_unchanged(self, present: Snapshot) -> None:
        channel, host = self._release.channel, present.hosts.get(self.host)
        network = present.site.networks.get(channel.network or "") if present.site else None
        if network is None or network.role.value != channel.kind.value or network.prefix != channel.prefix:
            raise Gone(self.host, f"network '{channel.network}' is not what it was", "power-cycle the host")
        changed = host is None or self._core.state(self.host).identity != self._identity
        if host is None or changed or host.netboot is Netboot.NEVER:
            raise Gone(self.host, "the revision that this boot began with is withdrawn", "power-cycle the host")

    async def turn(self) -> None:
        """Wait until the window has a boot for it. Raises Denied when it has none left, and Gone."""
        now = asyncio.get_running_loop().time
        while self.deliveries is not None:
            room = self.deliveries.has_room(self, now() - PATIENCE_SECONDS)
            if room is None:
                await asyncio.to_thread(self.charge)  # which says so, and records it
            if room is not False:
                break
            await asyncio.sleep(_TURN_SECONDS)
        self.since = now()

    async def acknowledged(self) -> None:
        """The machine has confirmed a secret byte, which is charged. Raises as `charge` does."""
        self.arrived = True
        if not self.charged:
            await asyncio.to_thread(self.charge)

    def charge(self) -> None:
        """Charge the boot, once. Raises Denied when nothing is left of its window, and Gone."""
        if not self.charged:
            self.check()
            self._charge()
            self.charged = True

    def guard(self, sock: socket.socket) -> None:
        """Let `sock` hear the machine alone, so that nobody else can say that a byte has arrived. Raises OSError."""
        if self._pin is not None:
            self._pin.guard(sock)

    async def guard_stream(self, sock: socket.socket) -> None:
        """The same for a connection. Raises Gone when it cannot be done."""
        if self._pin is not None and not await self._pin.guard_stream(sock):
            raise Gone(self.host, "its connection cannot be kept to it", "look at the server's log")

    async def reconfirm(self) -> bool:
        """Whether the machine is still there: what it did not acknowledge is not sent again to a port that a switch
        may have forgotten."""
        return self._pin is None or await self._pin.reconfirm()

    def end(self) -> None:
        """Nothing more will be sent; harmless when said before."""
        if not self.ended:
            self.ended = True
            if self._pin is not None:
                self._pin.release()
            if self.deliveries is not None:
                self.deliveries.end(self)


class Deliveries:
    """All that are under way. A window gives its last boot to one delivery at a time, until that is charged for it or
    ends; one of which nothing is acknowledged in time may be nobody's, and gives way to the next."""

    def __init__(self, core: Core) -> None:
        self._core, self._lock = core, Lock()
        self._of: dict[str, list[Delivery]] = {}

    def begin(self, delivery: Delivery) -> None:
        """Take it among them."""
        with self._lock:
            self._of.setdefault(delivery.host, []).append(delivery)
        delivery.deliveries = self

    def has_room(self, delivery: Delivery, late: float) -> bool | None:
        """Whether the window has a boot for this one beside those that came before it; None when it has none at all.

        Of those, one that had its turn before `late`, and of which nothing has arrived, is ended.
        """
        host, window = self._core.hosts.get(delivery.host), self._core.store.windows.of(delivery.host)
        if host is None or host.netboot is not Netboot.WINDOW or window is None:
            return True
        if any(boot.id == delivery.boot.id for boot in self._core.state(host.name).boots if boot.charged):
            return True
        left = window.boots - window.used
        with self._lock:
            own = self._of.get(delivery.host, [])
            before = [d for d in own[: own.index(delivery)] if not (d.charged or d.void)]
            before = [d for d in before if d.boot.id != delivery.boot.id]
            for one in before:
                one.void = left > 0 and one.since < late and not one.arrived
            before = [d for d in before if not d.void]
        return None if left <= 0 else len({one.boot.id for one in before}) < left

    def end(self, delivery: Delivery) -> None:
        """It is no longer among them."""
        with self._lock:
            left = [d for d in self._of.get(delivery.host, ()) if d is not delivery]
            if left:
                self._of[delivery.host] = left
            else:
                self._of.pop(delivery.host, None)
