"""What every part of the service stands on: the state directory, the hosts as policy sees them, and decisions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from threading import RLock
from typing import Self

from provision import clock as clocks
from provision import policy
from provision.accounts import ROOT_ONLY
from provision.below import discard
from provision.boot import Channel, Medium, Payload, Requester
from provision.clock import Clock
from provision.denial import Denial
from provision.errors import Conflict, NotFound, ProvisionError, Unavailable
from provision.host import Host
from provision.media.initrd import ALIVE, IDENTITY, SIGNED
from provision.media.library import BaseImage, Library
from provision.policy import Ground, HostState, Release
from provision.principal import Principal
from provision.service.acts import act
from provision.service.alerts import Alerts
from provision.service.alive import Alive
from provision.service.charged import Charged
from provision.service.decisions import Decisions
from provision.service.endpoints import Endpoints
from provision.service.footing import Footing
from provision.service.integrity import Integrity
from provision.service.payloads import Payloads
from provision.service.space import Foresight
from provision.service.tally import Tally
from provision.settings import Settings
from provision.site import CredentialSpec, Site
from provision.store.audit import Audit, Limits
from provision.store.closed import ClosedAudit
from provision.store.keys import MasterKey, load_key
from provision.store.lock import StateLock
from provision.store.snapshot import Snapshot
from provision.store.store import Store

_ROOM = "make room, or let 'audit_files' in provision.toml be smaller"
_log = logging.getLogger(__name__)


class Core:
    """One open state directory. Thread-safe; the methods do quick, blocking work unless they say otherwise."""

    def __init__(
        self, settings: Settings, store: Store, audit: Audit, library: Library, integrity: Integrity, clock: Clock
    ) -> None:
        self.settings, self.store, self.audit, self.clock = settings, store, audit, clock
        self.library, self.integrity = library, integrity
        self.lock = RLock()
        self.footing = Footing(store, audit, clock)
        # What of a host's state changes only with the snapshot, and the snapshot's count it belongs to.
        self._known: tuple[int, dict[str, tuple[Host, str, tuple[str, ...], str]]] = (-1, {})
        self.charged, self.payloads = Charged(store), Payloads(store)
        self.endpoints = Endpoints(settings, lambda: self.site)
        self.tally = Tally()
        self.decisions = Decisions(audit, self.tally)
        self.alive, self.alerts = Alive(), Alerts()
        # Since when this process serves hosts; None for one that gives a single answer.
        self._serving: datetime | None = None
        self._bases: dict[str, BaseImage] = {}
        # The MACs that the inventory has at each network's addresses, and the snapshot's count it belongs to.
        self._at: tuple[int, dict[tuple[str, IPv4Address], tuple[str, ...]]] = (-1, {})
        self._foresight, self._warned = Foresight(settings.state), False
        self.cautions: list[Callable[[], Sequence[ProvisionError]]] = []
        """What else has warnings for operators."""
        self._state_lock: StateLock | None = None

    @classmethod
    def open(cls, settings: Settings, clock: Clock = clocks.now, *, brief: bool = False) -> Self:
        """Lock and open the state directory, and sweep what an interrupted process left in it.

        A `brief` process gives one answer and ends, so it looks itself at the bytes behind that answer.
        """
        lock = StateLock(settings.state)
        try:
            key = load_key(settings.state)
            store = Store.open(settings.state, key, settings.database)
            library = Library(settings.state)
            library.sweep()
            uploads = settings.state / "tmp"
            discard(uploads)
            uploads.mkdir(mode=0o700, exist_ok=True)
            audit, integrity = _open_audit(settings, key, clock), Integrity(library, at_once=brief)
            core = cls(settings, store, audit, library, integrity, clock)
            core.footing.find()
            core._adopt_bases()
            core._serving = None if brief else clock()
        except OSError as error:
            lock.close()
            raise Unavailable(
                str(error.filename or settings.state),
                f"cannot be used ({error.strerror})",
                "check owner, mode and space",
            ) from None
        except BaseException:
            lock.close()
            raise
        core._state_lock = lock
        return core

    @property
    def ground(self) -> Ground:
        """What every decision stands on now."""
        return self.footing.ground

    def witness(self) -> None:
        """Let the audit log know that the store has changed, before anything rests on that. Raises Unavailable."""
        self.footing.witness()

    def _adopt_bases(self) -> None:
        """Name what an import built whole when it was killed before it could name it."""
        if self.store.database.distrust:
            return
        names = self.bases()
        for base in self.library.list():
            if base.id not in names.values() and base.name not in names:
                with self.act("image-imported", None, image=base.name, base=base.id[:16]):
                    self.store.bases.name(base.name, base.id)
                self.witness()

    def close(self) -> None:
        """Write what is aggregated, close the store, release the directory."""
        self.footing.watch()
        with suppress(Unavailable):
            self.audit.close()
        self.store.close()
        if self._state_lock:
            self._state_lock.close()

    # What is known

    @property
    def site(self) -> Site:
        """The site; raises Conflict before the first apply."""
        site = self.store.snapshot.site
        if site is None:
            raise Conflict("inventory", "nothing has been applied yet", "run 'provision apply FILE'")
        return site

    @property
    def hosts(self) -> Mapping[str, Host]:
        """Every host by name."""
        return self.store.snapshot.hosts

    def bases(self) -> Mapping[str, str]:
        """Base image ids by the names they were imported under."""
        return self.store.snapshot.bases

    def state(self, name: str) -> HostState:
        """The host as policy sees it; raises NotFound."""
        snapshot = self.store.snapshot
        fixed = self._fixed(name, snapshot)
        window, boots = self.store.windows.of(name), self.charged.of(name)
        marked = snapshot.exposed.get(name)
        exposed = tuple(one for one in marked if one in fixed[0].credentials) if marked else ()
        stored = self.store.identities.of(name) if self._has(fixed[0], IDENTITY) else None
        return HostState(*fixed, window, boots, self.ground, self._heard(name, fixed[0]), exposed, stored=stored)

    def _fixed(self, name: str, snapshot: Snapshot) -> tuple[Host, str, tuple[str, ...], str]:
        change, known = self._known
        if change != snapshot.change:
            known = {}
            self._known = (snapshot.change, known)
            self.decisions.forget_hosts()
            self.charged.forget_all()
        fixed = known.get(name)
        if fixed is None:
            host = snapshot.hosts.get(name)
            if host is None:
                raise _unknown(name)
            revision = snapshot.revisions[name]
            missing = (*snapshot.missing(host), *self._strangers(host))
            fixed = known[name] = (host, revision, missing, _identity(host, revision, snapshot))
        return fixed

    def described(self, name: str, principal: Principal) -> tuple[Host, str, tuple[str, ...]]:
        """A host, its revision and what its image lacks, from memory: nothing waits for the database. Raises NotFound
        as `seen` does."""
        host, revision, missing, _ = self._fixed(name, self.store.snapshot)
        if not principal.sees(host.labels):
            raise _unknown(name)
        return host, revision, missing

    def seen(self, name: str, principal: Principal) -> HostState:
        """The host as policy sees it; raises NotFound for one that the principal does not see, as for one that is not
        there."""
        host = self.store.snapshot.hosts.get(name)
        if host is not None and not principal.sees(host.labels):
            raise _unknown(name)
        state = self.state(name)
        # An apply may have come in between; what is seen is what is then used.
        if not principal.sees(state.host.labels):
            raise _unknown(name)
        return state

    def visible(self, principal: Principal) -> Iterator[Host]:
        """Every host that the principal sees, by name."""
        hosts = self.hosts.values()
        # Most see all of them, and pages of a large site are looked at every second.
        return (host for host in hosts if principal.sees(host.labels)) if principal.selector else iter(hosts)

    def _heard(self, name: str, host: Host) -> datetime | None:
        """When the host last said that it is up. What it said to an earlier process is not known, so that for a moment
        every host that ever came up counts as up: one that is will have said so again by then."""
        heard, serving, site = self.alive.heard(name), self._serving, self.store.snapshot.site
        if serving is None or site is None:
            return heard
        if abs(self.clock() - serving) >= timedelta(seconds=site.policy.alive_seconds):
            self._serving = None
            return heard
        if not self.has_agent(host) or all(boot.up is None for boot in self.store.boots.of(name)):
            return heard
        return max(serving, heard or serving)

    def has_agent(self, host: Host) -> bool:
        """Whether the host's image says of itself that it goes on saying that it is up."""
        return self._has(host, ALIVE)

    def is_signed(self, host: Host) -> bool:
        """Whether the host's image looks at the signature of its seed."""
        return self._has(host, SIGNED)

    def _has(self, host: Host, feature: str) -> bool:
        try:
            return feature in self.base_of(host).features
        except (Conflict, NotFound, Unavailable):
            return False

    def state_by_mac(self, mac: str | None) -> HostState | None:
        """The host that has the NIC `mac`, or None."""
        name = self.store.snapshot.by_mac.get(mac) if mac else None
        return self.state(name) if name else None

    def macs_at(self, network: str, address: IPv4Address) -> tuple[str, ...]:
        """The MACs that the inventory has at an address of a network; none when it gives the address to no host."""
        snapshot = self.store.snapshot
        change, found = self._at
        if change != snapshot.change:
            interfaces = [i for host in snapshot.hosts.values() for i in host.interfaces.values()]
            own = [(i.network, i.ipv4 or i.reservation, i.macs) for i in interfaces]
            found = {(there, at): macs for there, at, macs in own if there is not None and at is not None}
            self._at = (snapshot.change, found)
        return found.get((network, address), ())

    def base_of(self, host: Host | None) -> BaseImage:
        """The base image of `host`, or of the site for a machine that is not known; raises NotFound."""
        name = self.base_name_of(host)
        base_id = self.bases().get(name) if name else None
        if name is None or base_id is None:
            known = ", ".join(sorted(self.bases())) or "none"
            subject = host.name if host else "site"
            fact = f"its base image '{name}' is not imported (there: {known})" if name else "no base image is named"
            raise NotFound(subject, fact, "run 'provision image import', or correct 'base'")
        return self.base(base_id)

    def base_name_of(self, host: Host | None) -> str | None:
        """What that base image is called; None when none is named."""
        return self.store.snapshot.base_name(host) or self.site.base

    def owners(self, host: Host) -> dict[str, str]:
        """Owner and group by number ("0:64055") of the host's credentials that are not root's alone, by name.

        Raises NotFound without a base image, and Unavailable when it lacks an account: no release is given then.
        """
        specs = self._owned(host)
        accounts = self.base_of(host).accounts if specs else ROOT_ONLY
        try:
            return {name: accounts.owner(spec.owner, spec.group) for name, spec in specs.items()}
        except KeyError as error:
            fact = f"its base image has no account {error}"
            raise Unavailable(host.name, fact, "import an image that has it, or correct the credential") from None

    def _owned(self, host: Host) -> dict[str, CredentialSpec]:
        # Hosts without a site are what is left of a database that is not to be relied on; they get nothing anyway.
        site = self.store.snapshot.site
        declared = site.credentials if site is not None else {}
        found = ((name, declared.get(name)) for name in host.credentials)
        return {name: spec for name, spec in found if spec is not None and (spec.owner or spec.group)}

    def _strangers(self, host: Host) -> Iterator[str]:
        """What the host's base image lacks of the accounts that its credentials belong to."""
        specs = self._owned(host)
        with suppress(NotFound, Unavailable):
            for name, spec in specs.items():
                for kind, account in self.base_of(host).accounts.unknown(spec.owner, spec.group):
                    yield f"the {kind} '{account}' of its credential '{name}' in its base image"

    def base(self, base_id: str) -> BaseImage:
        """A base image by its id; raises Unavailable when it was found damaged. A file of it that went missing since
        shows when it is read: looking costs too much here."""
        self.integrity.require(base_id)
        found = self._bases.get(base_id)
        if found is None:
            found = self._bases[base_id] = self.library.get(base_id)
        return found

    # Decisions

    def decide(
        self,
        state: HostState | None,
        medium: Medium,
        channel: Channel,
        requester: Requester,
        *,
        payload: Payload | None = None,
        durable: bool = False,
        counted: bool = False,
        written: Callable[[Release], None] | None = None,
        later: bool = False,
        measured: bool = True,
    ) -> Release | Denial:
        """Decide and record. When the audit log cannot be written this raises Unavailable: the answer is no.

        A `durable` release is on disk before anything is given away; of those that are `counted`, the first of a
        minute is, and how many more there were follows. `written` is called with a durable release whose
        entry is on its way to the disk: what it begins may be given to nobody before this returns. With `later` one
        that is not `counted` may be given to nobody before `Audit.settle` returns. `payload` is
        what is asked for, when that is not one of the host's media. `measured` says whether a boot loader asks that
        measures what it loads.
        """
        now = self.clock()
        if state is not None and payload is None:
            state, payload = self.payloads.weighed(state, medium, channel, now, measured)
        payload = payload or (Payload.WRAPPED if medium is Medium.ENVELOPE else Payload.CLEAR)
        answer = policy.decide(state, self.site, medium, channel, requester, payload, now)
        host = state.host if state else None
        if isinstance(answer, Denial) and answer.passes:
            self.alerts.raise_(answer.subject, answer.rule, str(answer), now)
        how = {"durable": durable, "counted": counted, "later": later}
        self.decisions.record(answer, host, medium, channel, requester, now, written=written, **how)
        return answer

    def note(self, event: str, principal: Principal | None, **fields: str | int | None) -> None:
        """Record something that is so and that an auditor wants to see. What is yet to be done is an `act`."""
        name = principal.name if principal else None
        self.audit.record({"time": self.clock(), "event": event, "operator": name, **fields}, durable=True)

    def act(self, event: str, principal: Principal | None, **fields: str | int | None) -> AbstractContextManager[None]:
        """Do within this context what an auditor wants to see: see `acts.act`, of one entry."""
        return act(self.audit, self.clock, event, principal, [fields])

    def tick(self) -> None:
        """What a service does every second: write what the audit log has counted, and tell of a disk that will be full
        when that is new. Raises Unavailable."""
        now = self.clock()
        self._foresight.note(now, self.audit.growth)
        told = self._of_the_disk()
        if told and not self._warned:
            _log.warning("%s", told[0])
        self._warned = bool(told)
        self.store.links.flush()
        self.store.tokens.flush()
        self.audit.flush(now)

    def warnings(self) -> list[ProvisionError]:
        """What an operator should see to before it stops everything, or nobody can reach the server."""
        return [*self._of_the_disk(), *(warning for ask in self.cautions for warning in ask())]

    def _of_the_disk(self) -> list[Unavailable]:
        try:
            fact = self._foresight.look().warning
        except OSError as error:
            fact = f"cannot be looked at ({error.strerror})"
        return [Unavailable(str(self.settings.state), fact, _ROOM)] if fact else []

    def window_default(self) -> tuple[timedelta, int]:
        """The site's default window: how long, and how many boots."""
        return timedelta(minutes=self.site.policy.window_minutes), self.site.policy.window_boots


def _open_audit(settings: Settings, key: MasterKey, clock: Clock) -> Audit:
    path, age = settings.state / "audit.log", timedelta(days=settings.audit_file_days)
    try:
        return Audit(path, key, clock, limits=Limits(settings.audit_file_mib << 20, age, settings.audit_files))
    except Unavailable as error:
        # Nothing is decided without it, but an operator must be able to see what is wrong with it.
        return ClosedAudit(path, key, error)


def _identity(host: Host, revision: str, snapshot: Snapshot) -> str:
    base = snapshot.base_name(host)
    return hashlib.sha256(f"{revision} {snapshot.bases.get(base or '')}".encode()).hexdigest()


def _unknown(name: str) -> NotFound:
    return NotFound(name, "no host of this name is in the inventory", "see 'provision host list'")
