"""What a booting machine may ask for, over HTTP and TFTP alike."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address

from provision.boot import FETCHING, Channel, Medium, Requester
from provision.denial import Denial
from provision.errors import Denied, Gone, NotFound, Unavailable
from provision.media.layout import SEED, FileEntry
from provision.media.library import BaseImage
from provision.media.plan import Plan
from provision.net.pins import Pin
from provision.policy import HostState, Release, unsound
from provision.render import grub, pxelinux
from provision.seed import Seed
from provision.service.beginnings import Beginnings
from provision.service.complaints import Complaints
from provision.service.configurations import Configurations
from provision.service.core import Core
from provision.service.delivery import Deliveries, Delivery
from provision.service.denial_limiter import reporting
from provision.service.media_builder import MediaBuilder
from provision.service.phone_home import PhoneHome
from provision.service.progress import Progress, Tracker
from provision.service.reads import Read, Rereads
from provision.service.recent import Recent
from provision.store.boots import Start

_UNKNOWN_EVERY = timedelta(seconds=30)
_UNAVAILABLE = Denial("unavailable", "server", "This server cannot answer now", "Its log says why")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a request came in and who asks, as the edge found out; `port` is the HTTP port of that channel.

    `pin` keeps the requester's address at its MAC, for an answer that holds a secret.
    """

    channel: Channel
    requester: Requester
    port: int = 80
    pin: Pin | None = None

    def release(self) -> None:
        """Let go of the pin when there will be no answer that uses it."""
        if self.pin is not None:
            self.pin.release()

    @property
    def base_url(self) -> str:
        """The URL of this server on that channel, from the socket and never from a Host header."""
        return _base_url(self.channel.address, self.port)


class Netboot:
    """Configurations, kernels, seeds and HTTP Boot media. The methods may block on the store for milliseconds."""

    def __init__(self, core: Core, builder: MediaBuilder, tracker: Tracker) -> None:
        self._core, self._builder, self._tracker = core, builder, tracker
        self.rereads = Rereads(core)
        self.phone_home = PhoneHome(core, tracker, self.rereads.reads)
        self._deliveries = Deliveries(core)
        self._seen, self._uuids = Recent[datetime](), Recent[str]()
        self._beginnings = Beginnings(core.store)
        self._configurations = Configurations(builder)
        self._complaints = Complaints(_log)

    # Configurations

    def pxelinux_config(self, origin: Origin, claimed_mac: str) -> bytes:
        """The pxelinux configuration for `claimed_mac`; the claim must be the neighbour's. A server that cannot record
        or look up refuses like a policy that says no, so that an installed host comes to its disk. Raises NotFound
        for a refusal that passes by itself."""
        try:
            state = self._released_pxelinux(origin, claimed_mac)
            if isinstance(state, bytes):
                return state
            return self._pxelinux(state, origin, self._begin(state, Medium.PXE, origin))
        except Unavailable as error:
            return self._cannot(origin, error)

    async def pxelinux_config_of_many(self, origin: Origin, claimed_mac: str) -> bytes:
        """The same for one of many that ask at the same moment, on the event loop."""
        try:
            state = self._released_pxelinux(origin, claimed_mac)
            if isinstance(state, bytes):
                return state
            progress = self._under_way(state, Medium.PXE, origin)
            if progress is None:
                boot = await self._beginnings.begin(self._start(state, Medium.PXE, origin))
                progress = self._tracker.begin(boot)
            return self._pxelinux(state, origin, progress)
        except Unavailable as error:
            return self._cannot(origin, error)

    def _released_pxelinux(self, origin: Origin, claimed_mac: str) -> HostState | bytes:
        """The host that gets its configuration, by the decision that is recorded now; else the refusing one."""
        state = self._core.state_by_mac(claimed_mac)
        answer = self._decide(state, Medium.PXE, origin)
        if isinstance(answer, Denial) and answer.passes:
            # A loader that finds no configuration resets its machine after a while. One that is told to ask again
            # nests what it is given, and hangs after some dozen times (lpxelinux 6.04).
            raise NotFound("pxelinux.cfg", answer.reason, "the machine starts over by itself")
        if isinstance(answer, Denial) or state is None:
            return pxelinux.refusal(_lines(answer))
        return state

    def _pxelinux(self, state: HostState, origin: Origin, progress: Progress) -> bytes:
        base = self._core.base_of(state.host)
        self.sent(origin, "configuration", 1.0)
        revision = self._builder.revision(state, origin.channel, progress.boot)
        return self._configurations.pxelinux(state, base, revision, origin.base_url)

    def _cannot(self, origin: Origin, error: Unavailable) -> bytes:
        self._complaints.error(origin.channel.network, error)
        return pxelinux.refusal(_lines(_UNAVAILABLE))

    def grub_config(self, origin: Origin) -> bytes:
        """The GRUB configuration for the neighbour that asks, like `pxelinux_config`."""
        state = self._core.state_by_mac(origin.requester.mac)
        try:
            answer = self._decide(state, Medium.PXE, origin)
            if isinstance(answer, Denial) and answer.passes:
                return grub.try_again(_lines(answer))
            if isinstance(answer, Denial) or state is None:
                return grub.refusal(_lines(answer), identify=state is None)
            base = self._core.base_of(state.host)
            progress = self._begin(state, Medium.PXE, origin)
            self.sent(origin, "configuration", 1.0)
            revision = self._builder.revision(state, origin.channel, progress.boot)
            return self._configurations.grub(state, base, revision)
        except Unavailable as error:
            self._complaints.error(origin.channel.network, error)
            return grub.refusal(_lines(_UNAVAILABLE))

    def _decide(
        self, state: HostState | None, medium: Medium, origin: Origin, *, durable: bool = False, counted: bool = False
    ) -> Release | Denial:
        if state is None:
            self._note_unknown(origin)
        channel, requester = origin.channel, origin.requester
        return self._core.decide(state, medium, channel, requester, durable=durable, counted=counted)

    def _note_unknown(self, origin: Origin) -> None:
        mac, now, network = origin.requester.mac, self._core.clock(), origin.channel.network or ""
        if mac is None or origin.requester.local:
            return
        seen = self._seen.get(network, mac)
        if seen is not None and now - seen < _UNKNOWN_EVERY:
            return
        self._seen.put(network, mac, now)
        self._core.store.sightings.seen(mac, self._uuids.get(network, mac), network, now)

    def note_uuid(self, origin: Origin, uuid: str) -> None:
        """Remember the SMBIOS UUID that the machine's boot loader asked by."""
        mac, network = origin.requester.mac, origin.channel.network or ""
        if mac and self._core.state_by_mac(mac) is None and self._uuids.get(network, mac) != uuid:
            self._uuids.put(network, mac, uuid)
            self._seen.forget(network, mac)
            self._note_unknown(origin)

    # Boots

    def _begin(self, state: HostState, medium: Medium, origin: Origin) -> Progress:
        """The boot that this machine is in: the running one, or a new one. A changed host is a new boot."""
        running = self._under_way(state, medium, origin)
        if running is not None:
            return running
        mac, now, network = origin.requester.mac or "", self._core.clock(), origin.channel.network or ""
        boot = self._core.store.boots.begin(state.host.name, mac, medium, network, now, state.identity)
        return self._tracker.begin(boot)

    def _under_way(self, state: HostState, medium: Medium, origin: Origin) -> Progress | None:
        mac, now, network = origin.requester.mac or "", self._core.clock(), origin.channel.network or ""
        running = self._tracker.running(mac, medium, network, now)
        return running if running is not None and running.boot.seed_revision == state.identity else None

    def _start(self, state: HostState, medium: Medium, origin: Origin) -> Start:
        mac, network = origin.requester.mac or "", origin.channel.network or ""
        return Start(state.host.name, mac, medium, network, self._core.clock(), state.identity)

    def _running(self, state: HostState, medium: Medium, origin: Origin) -> Progress | None:
        """The boot that this machine is in, its configuration behind it."""
        mac, now, network = origin.requester.mac or "", self._core.clock(), origin.channel.network or ""
        running = self._tracker.running(mac, medium, network, now, FETCHING)
        if running is None:
            # Known to the store but not to the tracker: the server was started again in the middle of the boot.
            for boot in self._core.store.boots.of(state.host.name)[:4]:
                same = (boot.mac, boot.medium, boot.network) == (mac, medium, network)
                if same and boot.is_running(now, FETCHING):
                    return self._tracker.begin(boot)
        return running

    def _pinned(self, state: HostState, medium: Medium, origin: Origin) -> Progress:
        """The running boot, when what it began with is still the present revision; raises Gone."""
        running = self._running(state, medium, origin)
        if running is None:
            raise Gone(state.host.name, "no boot of it is under way any more", "power-cycle the host")
        if running.boot.seed_revision != state.identity:
            raise Gone(state.host.name, "the revision that this boot began with is withdrawn", "power-cycle the host")
        return running

    def _charge(self, state: HostState, progress: Progress) -> None:
        boot = progress.boot
        # Asked again: what was released at the beginning of a transfer is charged when its first byte is due.
        if denial := unsound(replace(state, ground=self._core.ground)):
            raise denial.error()
        charged = self._core.store.boots.charge(boot, self._core.clock())
        self._core.charged.forget(state.host.name)
        self._core.witness()
        if charged is None:
            refused = {"event": "charge-refused", "host": boot.host, "mac": boot.mac, "rule": "window-closed"}
            refused |= {"network": boot.network}
            self._core.audit.record({"time": self._core.clock(), **refused}, bound=reporting(boot.network))
            raise Denied(
                state.host.name,
                "its boot window has been used by another boot",
                f"open one: 'provision window {state.host.name}'",
                "window-closed",
            )
        self._tracker.update(charged)

    def _deliver(
        self, origin: Origin, state: HostState, release: Release, progress: Progress, what: Seed | Plan, at: int = 0
    ) -> Delivery:
        def charge() -> None:
            self._charge(state, progress)

        def taken(first: int, last: int, size: int) -> None:
            self.read_done(origin, release.medium, first, last, size)

        delivery = Delivery(self._core, state, release, progress.boot, what, at, origin.pin, charge, taken)
        self._deliveries.begin(delivery)
        return delivery

    # Secret-bearing bytes

    def seed(self, origin: Origin, revision: str | None) -> Delivery:
        """The seed of the neighbour's running boot. Raises Denied, or Gone when `revision` is not the present one.

        `revision` None stands for the present one: a static configuration of the operator's own cannot name it. Nothing
        is charged before the delivery is acknowledged.
        """
        state = self._core.state_by_mac(origin.requester.mac)
        release = self._decide(state, Medium.PXE, origin, durable=True)
        if isinstance(release, Denial):
            if state is not None and revision is not None and self._running(state, Medium.PXE, origin):
                self._pinned(state, Medium.PXE, origin)  # a window used up is not why a changed host gets nothing
            raise release.error()
        assert state is not None  # noqa: S101  (no state, no release)
        if revision is None:
            progress = self._begin(state, Medium.PXE, origin)
        else:
            progress = self._pinned(state, Medium.PXE, origin)
        present = self._builder.revision(state, origin.channel, progress.boot)
        if revision not in (None, present):
            raise Gone(state.host.name, "this revision of its seed is withdrawn", "power-cycle the host")
        return self._deliver(
            origin, state, release, progress, self._builder.seed(release, state, progress.boot, present)
        )

    def http_boot(self, origin: Origin, start: int, *, sends: bool = True) -> Plan | Delivery:
        """The ISO for the neighbour that asks, read from byte `start` on; a refusal medium when policy says no.

        It `sends` no byte for HEAD. A read from the middle is pinned to the revision the boot began
        with; raises Gone when that is withdrawn, and Unavailable when it cannot be recorded.
        """
        try:
            return self._http_boot(origin, start, sends)
        except Unavailable as error:
            if start:
                raise
            self._complaints.error(origin.channel.network, error)
            state = self._core.state_by_mac(origin.requester.mac)
            return self._builder.refusal(self._core.base_of(state.host if state else None), _lines(_UNAVAILABLE))

    def _http_boot(self, origin: Origin, start: int, sends: bool) -> Plan | Delivery:
        state = self._core.state_by_mac(origin.requester.mac)
        answer = self._decide(state, Medium.HTTP_BOOT, origin, durable=sends, counted=True)
        if isinstance(answer, Denial) or state is None:
            if start and state is not None and self._has_begun(state, origin):
                raise Gone(state.host.name, "the medium that this boot began with is withdrawn", "power-cycle the host")
            base = self._core.base_of(state.host if state else None)
            passes = isinstance(answer, Denial) and answer.passes
            return self._builder.refusal(base, _lines(answer), unknown=state is None, passes=passes)
        if start:
            progress = self._pinned(state, Medium.HTTP_BOOT, origin)
        else:
            progress = self._begin(state, Medium.HTTP_BOOT, origin)
            self.sent(origin, "configuration", 1.0)
        plan = self._builder.plan(answer, state, progress.boot)
        return self._deliver(
            origin, state, answer, progress, plan, self._core.base_of(state.host).iso.slots[SEED].offset
        )

    def _has_begun(self, state: HostState, origin: Origin) -> bool:
        """Whether this machine may be in the middle of its own medium, which the refusing one must not continue."""
        place = origin.requester.mac, Medium.HTTP_BOOT
        charged = any((boot.mac, boot.medium) == place for boot in state.boots)
        return charged or self._running(state, Medium.HTTP_BOOT, origin) is not None

    # Bytes without secrets

    def kernel(self, base_id: str) -> FileEntry:
        """The kernel of a base image, by the image's id; raises NotFound."""
        return self._base(base_id).kernel

    def initrd(self, base_id: str, number: int) -> FileEntry:
        """One initrd of a base image; raises NotFound."""
        initrds = self._base(base_id).initrds
        if not 0 <= number < len(initrds):
            raise NotFound("initrd", f"the image has {len(initrds)}", "power-cycle the host")
        return initrds[number]

    def _base(self, base_id: str) -> BaseImage:
        if base_id not in self._core.bases().values():
            raise NotFound("base image", "there is none with this id", "power-cycle the host")
        return self._core.base(base_id)

    def loader(self, origin: Origin, name: str) -> FileEntry:
        """A boot loader's file from the set of the neighbour's base image; raises NotFound."""
        state = self._core.state_by_mac(origin.requester.mac)
        entry = self._core.base_of(state.host if state else None).loaders.get(name)
        if entry is None:
            raise NotFound("boot file", "no such file", "see docs/deployment.md for what is served")
        return entry

    def initrds_before(self, base_id: str, number: int) -> tuple[int, int]:
        """Bytes of the initrds before this one, and of all of them: a machine fetches them in order."""
        sizes = [entry.size for entry in self._base(base_id).initrds]
        return sum(sizes[:number]), sum(sizes)

    def sent(self, origin: Origin, part: str, fraction: float, since: float = 0.0) -> None:
        """Note that the neighbour was sent `part` from the fraction `since` (0..1) of it up to `fraction`."""
        network = origin.channel.network or ""
        self._tracker.sent(origin.requester.mac, network, part, fraction, self._core.clock(), since)

    def read_done(self, origin: Origin, medium: Medium, first: int, last: int, size: int) -> None:
        """Note that the neighbour was sent its seed of `size` bytes from byte `first` up to byte `last`."""
        mac = origin.requester.mac
        state = self._core.state_by_mac(mac)
        if state is not None and mac is not None:
            address = str(origin.requester.address)
            self.rereads.read(Read(state.host.name, mac, address, medium, state.identity, first, last, size))

    @property
    def is_busy(self) -> bool:
        """Whether a call would now wait for another thread, which writes to a disk."""
        return self._core.store.database.is_busy or self._core.audit.is_busy


@lru_cache(maxsize=256)
def _base_url(address: IPv4Address | None, port: int) -> str:
    return f"http://{address}" if port == 80 else f"http://{address}:{port}"


def _lines(answer: Denial | Release) -> tuple[str, ...]:
    """The denial in words for a console."""
    if not isinstance(answer, Denial):
        return ()
    return (f"Not booting from the network: {answer.reason}.", f"{answer.remedy}.", f"(rule: {answer.rule})")
