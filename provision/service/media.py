"""Media that an operator downloads: decided, made, and described."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

from provision.api.media import MediumDescription
from provision.api.operations import Operation
from provision.boot import OPERATOR, RAW, Copy, DiskFormat, Kind, Medium, Requester
from provision.denial import Denial
from provision.errors import Conflict, Gone
from provision.media import disk_patch
from provision.media.layout import Progress
from provision.media.plan import Plan
from provision.media.reader import Reader
from provision.policy import HostState, Release
from provision.principal import Principal
from provision.service import standing
from provision.service.core import Core
from provision.service.media_builder import MediaBuilder
from provision.service.operations import Operations, Order, Running

QUICK = 256 << 20
"""Bytes of a medium that are read while who asks waits: about a second of work."""
_AT_A_TIME = 4
_KEPT = 4096
"""Digests remembered; of more, the oldest goes."""


class Media:
    """ISOs and disk images for operators."""

    def __init__(self, core: Core, builder: MediaBuilder, operations: Operations) -> None:
        self._core, self._builder, self._operations = core, builder, operations
        self.digests = Digests()
        self._building = ThreadPoolExecutor(_AT_A_TIME, "building")

    def plan(
        self, name: str, medium: Medium, principal: Principal, format_: DiskFormat = RAW, *, first: bool = True
    ) -> Plan:
        """The host's ISO or disk image for `principal`; raises NotFound or Denied, and Conflict when its base has no
        disk in that format.

        `first` is False for a range from the middle: a client makes thousands of those, and they are counted.
        """
        state, asks = self._core.seen(name, principal), Requester(principal=principal)
        begun: list[Future[Plan]] = []

        def begin(release: Release) -> None:
            with suppress(RuntimeError):  # there is no thread for it now
                begun.append(self._building.submit(self._plan, release, state, medium, format_))

        # A medium takes about as long to make as the disk needs for the entry that has to be on it first.
        answer = self._core.decide(state, medium, OPERATOR, asks, durable=True, counted=not first, written=begin)
        if isinstance(answer, Denial):
            raise answer.error()
        return begun[0].result() if begun else self._plan(answer, state, medium, format_)

    def _plan(self, release: Release, state: HostState, medium: Medium, format_: DiskFormat) -> Plan:
        return self._builder.plan(release, state, Copy(state.host.name, medium, state.identity[:32]), format_)

    def disk_patch(self, name: str, principal: Principal) -> tuple[bytes, Plan]:
        """What makes the host's disk of its base's, as a file, and the plan that it is of; raises like `plan`."""
        host = self._core.seen(name, principal).host
        if host.is_given_signed(Medium.DISK):
            fact = "has the signed image on its disk, which is the same for all hosts, so there is no patch for it"
            raise Conflict(name, fact, f"write the whole disk: 'provision disk {name}'")
        plan = self.plan(name, Medium.DISK, principal)
        base, image = self._core.base_of(host), self._core.base_name_of(host)
        # The base that the plan is of: the inventory may have changed since.
        if image is None or base.disk.sha256 != plan.base_digest:
            raise Gone(name, "its base image has just changed", "ask again")
        return disk_patch.encode(name, image, plan), plan

    def going_on(self, name: str, principal: Principal) -> Callable[[], None]:
        """What is asked before each further piece of a download that begins after this.

        It raises Unauthenticated when the principal's token has been revoked, and Gone when the host has been declared
        compromised since.
        """
        store = self._core.store
        known = store.snapshot.compromised.get(name)
        declared = known.number if known is not None else 0

        def check() -> None:
            standing.require(store, principal)
            present = store.snapshot.compromised.get(name)
            if present is not None and present.number != declared:
                raise Gone(name, "was declared compromised", f"see 'provision explain {name}'")

        return check

    def describe(self, name: str, medium: Medium, principal: Principal, format_: DiskFormat = RAW) -> MediumDescription:
        """What such a download is, when its SHA-256 is known or does not take long. Raises like `plan`, and Conflict
        for a large medium that `begin_describing` has to read first."""
        plan = self.plan(name, medium, principal, format_)
        if plan.size > QUICK and not self.digests.knows(plan):
            fact = "its SHA-256 is not known yet, and takes a while"
            raise Conflict(
                f"{name}: {Kind(medium, format_)}", fact, "POST to the same path begins an operation that computes it"
            )
        return self._described(name, Kind(medium, format_), plan)

    def begin_describing(self, name: str, medium: Medium, principal: Principal, format_: DiskFormat = RAW) -> Operation:
        """Begin to read the whole medium; the description is what comes of it. Raises like `plan`."""
        plan = self.plan(name, medium, principal, format_)
        order = Order(f"sha256 of {Kind(medium, format_)}", host=name, work=True, joins=True, version=plan.etag)

        def work(running: Running) -> MediumDescription:
            def progress(stage: str, fraction: float) -> None:
                running.progress(stage, fraction)
                standing.require_any(self._core.store, running.wanted)

            return self._described(name, Kind(medium, format_), plan, progress)

        return self._operations.start(order, principal, work)

    def _described(
        self, name: str, kind: Kind, plan: Plan, progress: Progress = lambda stage, done: None
    ) -> MediumDescription:
        digest = self.digests.of(plan, progress)
        return MediumDescription(
            host=name, medium=kind.medium, format=kind.format, sha256=digest, size=plan.size, etag=plan.etag
        )


class Digests:
    """Whole-file SHA-256 sums of media, computed on demand and remembered by entity tag."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def knows(self, plan: Plan) -> bool:
        """Whether the medium was read before."""
        with self._lock:
            return plan.etag in self._known

    def of(self, plan: Plan, progress: Progress = lambda stage, done: None) -> str:
        """Hex SHA-256 of the whole medium; reads all of it the first time."""
        with self._lock:
            known = self._known.get(plan.etag)
        if known is None:
            with Reader(plan) as reader:
                known = reader.digest(progress)
            with self._lock:
                self._known[plan.etag] = known
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
        return known
