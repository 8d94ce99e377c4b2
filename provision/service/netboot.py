"""What a booting machine may ask for, over HTTP and TFTP alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from provision.boot import Medium
from provision.denial import Denial
from provision.errors import Denied, Gone, NotFound, ProvisionError, Unavailable
from provision.media.layout import SEED, FileEntry
from provision.media.library import BaseImage
from provision.media.plan import Plan
from provision.policy import HostState, Release
from provision.render import grub, pxelinux
from provision.seed import Seed
from provision.service.complaints import Complaints
from provision.service.configurations import Configurations
from provision.service.core import Core
from provision.service.current_boot import CurrentBoots
from provision.service.delivery import Deliveries, Delivery
from provision.service.duplicates import Duplicates
from provision.service.enrolling import Enrolling
from provision.service.media_builder import MediaBuilder
from provision.service.openings import Openings
from provision.service.origin import Origin
from provision.service.phone_home import PhoneHome
from provision.service.progress import Progress, Tracker
from provision.service.proving import Proving
from provision.service.reads import Read, Rereads
from provision.service.recent import Recent
from provision.service.together import Together
from provision.service.unified_boot import UnifiedBoots
from provision.service.updates import Updates

_UNKNOWN_EVERY = timedelta(seconds=30)
_UNAVAILABLE = Denial("unavailable", "server", "This server cannot answer now", "Its log says why")
_log = logging.getLogger(__name__)

Charging = tuple[Delivery, HostState, Progress]
"""A delivery of which the machine has a secret byte, and the boot that is to be charged for it."""


class Netboot:
    """Configurations, kernels, seeds and HTTP Boot media. The methods may block on the store for milliseconds."""

    def __init__(
        self,
        core: Core,
        builder: MediaBuilder,
        tracker: Tracker,
        proving: Proving,
        updates: Updates,
        openings: Openings,
    ) -> None:
        self._core, self._builder, self._tracker = core, builder, tracker
        self.proving, self.envelopes, self.updates = proving, proving.envelopes, updates
        self.rereads = Rereads(core)
        self.phone_home = PhoneHome(core, tracker, self.rereads.reads, updates)
        self.enrolling, self.openings = Enrolling(core), openings
        self._deliveries = Deliveries(core)
        self._seen, self._uuids = Recent[datetime](), Recent[str]()
        self._boots = CurrentBoots(core, tracker)
        self._configurations = Configurations(builder)
        self.unified = UnifiedBoots(core, builder, self._boots, self.enrolling)
        self._duplicates = Duplicates(core)
        self._complaints = Complaints(_log)
        self._seeds, self._charges = Together(self._make_seeds), Together(self._charge_all)

    # Configurations

    def pxelinux_config(self, origin: Origin, claimed_mac: str) -> bytes:
        """The pxelinux configuration for `claimed_mac`; the claim must be the neighbour's. A server that cannot record
        or look up refuses like a policy that says no, so that an installed host comes to its disk. Raises NotFound
        for a refusal that passes by itself."""
        try:
            answer = self._released_pxelinux(origin, claimed_mac)
            if isinstance(answer, bytes):
                return answer
            return self._pxelinux(*answer, origin, self._boots.begin(answer[0], Medium.PXE, origin))
        except Unavailable as error:
            return self._cannot(origin, error)

    async def pxelinux_config_of_many(self, origin: Origin, claimed_mac: str) -> bytes:
        """The same for one of many that ask at the same moment, on the event loop."""
        try:
            answer = self._released_pxelinux(origin, claimed_mac)
            if isinstance(answer, bytes):
                return answer
            progress = await self._boots.begin_with_others(answer[0], Medium.PXE, origin)
            return self._pxelinux(*answer, origin, progress)
        except Unavailable as error:
            return self._cannot(origin, error)

    def _released_pxelinux(self, origin: Origin, claimed_mac: str) -> tuple[HostState, Release] | bytes:
        """The host that gets its configuration, by the decision that is recorded now; else the refusing one."""
        state = self._core.state_by_mac(claimed_mac)
        answer = self._decide(state, Medium.PXE, origin, measured=False)
        if isinstance(answer, Denial) and answer.passes:
            # A loader that finds no configuration resets its machine after a while. One that is told to ask again
            # nests what it is given, and hangs after some dozen times (lpxelinux 6.04).
            raise NotFound("pxelinux.cfg", answer.reason, "the machine starts over by itself")
        if isinstance(answer, Denial) or state is None:
            return pxelinux.refusal(_lines(answer))
        return state, answer

    def _pxelinux(self, state: HostState, release: Release, origin: Origin, progress: Progress) -> bytes:
        base = self._core.base_of(state.host)
        self.sent(origin, "configuration", 1.0)
        revision = self._revision(state, release, origin, progress)
        return self._configurations.pxelinux(state, base, revision, origin.base_url, self._enrols(state))

    def _enrols(self, state: HostState) -> bool:
        return self.enrolling.is_wanted(state.host.name)

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
            progress = self._boots.begin(state, Medium.PXE, origin)
            self.sent(origin, "configuration", 1.0)
            revision = self._revision(state, answer, origin, progress)
            return self._configurations.grub(state, base, revision, origin.base_url if self._enrols(state) else None)
        except Unavailable as error:
            self._complaints.error(origin.channel.network, error)
            return grub.refusal(_lines(_UNAVAILABLE))

    def _revision(self, state: HostState, release: Release, origin: Origin, progress: Progress) -> str | None:
        """The revision of the seed that the boot is to read; None when its release is for the image alone."""
        progress.plain = release.plain
        return None if release.plain else self._builder.revision(state, origin.channel, progress.boot)

    def _decide(
        self,
        state: HostState | None,
        medium: Medium,
        origin: Origin,
        *,
        durable: bool = False,
        counted: bool = False,
        later: bool = False,
        measured: bool = True,
    ) -> Release | Denial:
        if state is None:
            self._note_unknown(origin)
        self._duplicates.note(origin)
        channel, requester = origin.channel, origin.requester
        return self._core.decide(
            state, medium, channel, requester, durable=durable, counted=counted, later=later, measured=measured
        )

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

    # Secret-bearing bytes

    def _deliver(
        self, origin: Origin, state: HostState, release: Release, progress: Progress, what: Seed | Plan, at: int = 0
    ) -> Delivery:
        def charge() -> None:
            self._boots.charge(state, progress)

        def taken(first: int, last: int, size: int) -> None:
            self.read_done(origin, release.medium, first, last, size)

        async def with_others(delivery: Delivery) -> None:
            await self._charges.begin((delivery, state, progress))

        delivery = Delivery(self._core, state, release, progress.boot, what, at, origin.pin, charge, taken, with_others)
        self._deliveries.begin(delivery)
        return delivery

    def _charge_all(self, of: Sequence[Charging]) -> list[Exception | None]:
        """`Delivery.charge` of each of them, in one transaction."""
        outcomes: list[Exception | None] = []
        for delivery, _, _ in of:
            try:
                delivery.check()  # here and not before: it may have waited for its turn
                outcomes.append(None)
            except ProvisionError as error:
                outcomes.append(error)
        due = [number for number, outcome in enumerate(outcomes) if outcome is None and not of[number][0].charged]
        for number, refused in zip(due, self._boots.charge_all([of[number][1:] for number in due]), strict=True):
            outcomes[number], of[number][0].charged = refused, refused is None
        return outcomes

    def seed_of_many(self, origin: Origin, revision: str | None) -> asyncio.Future[Delivery]:
        """`seed` for one of many that ask at the same moment, on the event loop: one wait for the disk for all."""
        return self._seeds.begin((origin, revision))

    def _make_seeds(self, of: Sequence[tuple[Origin, str | None]]) -> list[Delivery | Exception]:
        """`seed` of each of them. Their decisions are on disk when this returns, before which none is given away."""
        made: list[Delivery | Exception] = []
        for origin, revision in of:
            try:
                made.append(self.seed(origin, revision, later=len(of) > 1))
            except Exception as error:
                made.append(error)  # for the one that asked
        try:
            if len(of) > 1:
                self._core.audit.settle()
        except Unavailable as error:
            for one in made:
                if isinstance(one, Delivery):
                    one.end()
            return [error if isinstance(one, Delivery) else one for one in made]
        return made

    def seed(self, origin: Origin, revision: str | None, *, later: bool = False) -> Delivery:
        """The seed of the neighbour's running boot. Raises Denied, or Gone when `revision` is not the present one.

        `revision` None stands for the present one: a static configuration of the operator's own cannot name it. Nothing
        is charged before the delivery is acknowledged. `later`: see `Core.decide`.
        """
        state = self._core.state_by_mac(origin.requester.mac)
        release = self._decide(state, Medium.PXE, origin, durable=True, later=later)
        if isinstance(release, Denial):
            if state is not None and revision is not None and self._boots.running(state, Medium.PXE, origin):
                self._boots.pinned(state, Medium.PXE, origin)  # a window used up is not why a changed host gets nothing
            raise release.error()
        assert state is not None  # noqa: S101  (no state, no release)
        if release.plain:
            raise _has_it(state)
        if revision is None:
            progress = self._boots.begin(state, Medium.PXE, origin)
        else:
            progress = self._boots.pinned(state, Medium.PXE, origin)
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
            if start and state is not None and self._boots.has_begun(state, origin):
                raise Gone(state.host.name, "the medium that this boot began with is withdrawn", "power-cycle the host")
            base = self._core.base_of(state.host if state else None)
            passes = isinstance(answer, Denial) and answer.passes
            return self._builder.refusal(base, _lines(answer), unknown=state is None, passes=passes)
        if start:
            progress = self._boots.pinned(state, Medium.HTTP_BOOT, origin)
            if progress.plain != answer.plain:
                raise Gone(state.host.name, "the medium that this boot began with is withdrawn", "power-cycle the host")
        else:
            progress = self._boots.begin(state, Medium.HTTP_BOOT, origin)
            self.sent(origin, "configuration", 1.0)
        progress.plain = answer.plain
        if answer.plain:
            return self._builder.image_alone(state)
        plan = self._builder.plan(answer, state, progress.boot)
        return self._deliver(
            origin, state, answer, progress, plan, self._core.base_of(state.host).iso.slots[SEED].offset
        )

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
            raise NotFound("base image", "no base image has this id", "power-cycle the host")
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


def _has_it(state: HostState) -> Denied:
    name = state.host.name
    return Denied(
        name, "its identity is on its own disk", f"'provision host reprovision {name}' for a new one", "plain"
    )


def _lines(answer: Denial | Release) -> tuple[str, ...]:
    """The denial in words for a console."""
    if not isinstance(answer, Denial):
        return ()
    return (f"Not booting from the network: {answer.reason}.", f"{answer.remedy}.", f"(rule: {answer.rule})")
