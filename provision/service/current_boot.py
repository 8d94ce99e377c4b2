"""Which boot a machine is in: the one that is under way, or a new one. It is charged to the host's window once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from provision.boot import FETCHING, Boot, Medium
from provision.errors import Denied, Gone
from provision.policy import HostState, unsound
from provision.service.beginnings import Beginnings
from provision.service.core import Core
from provision.service.denial_limiter import beginning, reporting
from provision.service.origin import Origin
from provision.service.progress import Progress, Tracker
from provision.store.boots import Start


class CurrentBoots:
    """The boots of machines by host, MAC, medium and network. The methods may block on the store for milliseconds."""

    def __init__(self, core: Core, tracker: Tracker) -> None:
        self._core, self._tracker = core, tracker
        self._beginnings = Beginnings(core.store)

    def begin(self, state: HostState, medium: Medium, origin: Origin) -> Progress:
        """The running boot, or a new one. A changed host is a new boot."""
        running = self._under_way(state, medium, origin)
        if running is not None:
            return running
        start = self._start(state, medium, origin)
        boot = self._core.store.boots.begin(
            start.host, start.mac, start.medium, start.network, start.now, start.seed_revision
        )
        return self._begun(boot, start)

    async def begin_with_others(self, state: HostState, medium: Medium, origin: Origin) -> Progress:
        """The same for one of many machines that ask at the same moment, on the event loop."""
        running = self._under_way(state, medium, origin)
        if running is not None:
            return running
        start = self._start(state, medium, origin)
        return self._begun(await self._beginnings.begin(start), start)

    def _begun(self, boot: Boot, start: Start) -> Progress:
        """Follow the boot; the audit log says so of one that is new. Raises Unavailable."""
        if boot.started == start.now:
            about = {"host": boot.host, "mac": boot.mac, "medium": str(boot.medium), "network": boot.network}
            event = {"time": start.now, "event": "boot-begun", "boot": boot.id, **about}
            self._core.audit.record(event, counted=False, bound=beginning(boot.network, boot.host))
        return self._tracker.begin(boot)

    def _under_way(self, state: HostState, medium: Medium, origin: Origin) -> Progress | None:
        mac, now, network = origin.requester.mac or "", self._core.clock(), origin.channel.network or ""
        running = self._tracker.running(mac, medium, network, now)
        return running if running is not None and running.boot.seed_revision == state.identity else None

    def _start(self, state: HostState, medium: Medium, origin: Origin) -> Start:
        mac, network = origin.requester.mac or "", origin.channel.network or ""
        return Start(state.host.name, mac, medium, network, self._core.clock(), state.identity)

    def running(self, state: HostState, medium: Medium, origin: Origin) -> Progress | None:
        """The boot whose configuration this machine has already, or None."""
        mac, now, network = origin.requester.mac or "", self._core.clock(), origin.channel.network or ""
        running = self._tracker.running(mac, medium, network, now, FETCHING)
        if running is None:
            # Known to the store but not to the tracker: the server was started again in the middle of the boot.
            for boot in self._core.store.boots.of(state.host.name)[:4]:
                same = (boot.mac, boot.medium, boot.network) == (mac, medium, network)
                if same and boot.is_running(now, FETCHING):
                    return self._tracker.begin(boot)
        return running

    def pinned(self, state: HostState, medium: Medium, origin: Origin) -> Progress:
        """The running boot, when what it began with is still the present revision; raises Gone."""
        running = self.running(state, medium, origin)
        if running is None:
            raise Gone(state.host.name, "no boot of it is under way any more", "power-cycle the host")
        if running.boot.seed_revision != state.identity:
            raise Gone(state.host.name, "the revision that this boot began with is withdrawn", "power-cycle the host")
        return running

    def has_begun(self, state: HostState, origin: Origin) -> bool:
        """Whether this machine may be in the middle of its own medium, which the refusing one must not continue."""
        place = origin.requester.mac, Medium.HTTP_BOOT
        charged = any((boot.mac, boot.medium) == place for boot in state.boots)
        return charged or self.running(state, Medium.HTTP_BOOT, origin) is not None

    def charge(self, state: HostState, progress: Progress) -> None:
        """Charge the boot to the window that it uses. Raises Denied when another boot has used that up."""
        (refused,) = self.charge_all([(state, progress)])
        if refused is not None:
            raise refused

    def charge_all(self, of: Sequence[tuple[HostState, Progress]]) -> list[Denied | None]:
        """`charge` for boots of the same moment in one transaction; the error of each that is not charged."""
        # Asked again: what was released at the beginning of a transfer is charged when its first byte is due.
        ground = self._core.ground
        denials = [unsound(replace(state, ground=ground)) for state, _ in of]
        due = [progress.boot for (_, progress), denial in zip(of, denials, strict=True) if denial is None]
        charged = iter(self._core.store.boots.charge_all(due, self._core.clock()) if due else ())
        for boot in due:
            self._core.charged.forget(boot.host)
        if due:
            self._core.witness()
        return [
            denial.error() if denial else self._outcome(one[1].boot, next(charged))
            for one, denial in zip(of, denials, strict=True)
        ]

    def _outcome(self, boot: Boot, charged: Boot | None) -> Denied | None:
        """Follow the boot as it is `charged` now, or record that it was not: the error that says so."""
        if charged is not None:
            self._tracker.update(charged)
            return None
        refused = {"event": "charge-refused", "host": boot.host, "mac": boot.mac, "rule": "window-closed"}
        refused |= {"network": boot.network}
        self._core.audit.record({"time": self._core.clock(), **refused}, bound=reporting(boot.network))
        fact, remedy = "its boot window has been used by another boot", f"open one: 'provision window {boot.host}'"
        return Denied(boot.host, fact, remedy, "window-closed")
