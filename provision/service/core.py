"""What every part of the service stands on: the state directory, the hosts as policy sees them, and decisions."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from threading import Lock, RLock
from typing import Self

from provision import clock as clocks
from provision import policy
from provision.boot import Boot, Channel, ChannelKind, Medium, Payload, Requester, Role
from provision.clock import Clock
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.host import Host
from provision.media.initrd import ALIVE
from provision.media.library import BaseImage, Library
from provision.net.interfaces import Binding, address_of, look
from provision.policy import Denial, HostState, Release
from provision.seed import BootServer
from provision.service.alerts import Alerts
from provision.service.alive import Alive
from provision.service.crowd import Crowd
from provision.service.scrub import Scrub
from provision.settings import Settings
from provision.site import Site
from provision.store.audit import Audit, ClosedAudit
from provision.store.hosts import Snapshot
from provision.store.keys import MasterKey, load_key
from provision.store.lock import StateLock
from provision.store.store import Store


@dataclass(frozen=True)
class Endpoint:
    """Where this server is on a network: interface, address and HTTP port."""

    interface: str
    address: IPv4Address
    port: int

    @property
    def url(self) -> str:
        """The URL of the boot application there, without a path."""
        return f"http://{self.address}" if self.port == 80 else f"http://{self.address}:{self.port}"


class Core:
    """One open state directory. Thread-safe; the methods do quick, blocking work unless they say otherwise."""

    def __init__(
        self, settings: Settings, store: Store, audit: Audit, library: Library, scrub: Scrub, clock: Clock
    ) -> None:
        self.settings, self.store, self.audit, self.clock = settings, store, audit, clock
        self.library, self.scrub = library, scrub
        self.lock = RLock()
        # What of a host's state changes only with the snapshot, and the snapshot's count it belongs to.
        self._known: tuple[int, dict[str, tuple[Host, str, tuple[str, ...], str]]] = (-1, {})
        # Every host's charged boots as far as they were asked for, and a count of what made such an answer old.
        self._charged: dict[str, tuple[Boot, ...]] = {}
        self._forgotten, self._charged_lock = 0, Lock()
        # Where each network is served, or why it cannot be now; None for one of which the settings say nothing.
        self._endpoints: dict[str, Endpoint | Unavailable | None] = {}
        self._boot_servers: dict[str, tuple[Host, Site, tuple[BootServer, ...]]] = {}
        self._denied = Crowd()
        self.alive, self.alerts = Alive(), Alerts()
        # Since when this process serves hosts; None for one that gives a single answer.
        self._serving: datetime | None = None
        self._bases: dict[str, BaseImage] = {}
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
            shutil.rmtree(uploads, ignore_errors=True)
            uploads.mkdir(mode=0o700, exist_ok=True)
            audit, scrub = _open_audit(settings.state / "audit.log", key), Scrub(library, at_once=brief)
            core = cls(settings, store, audit, library, scrub, clock)
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

    def _adopt_bases(self) -> None:
        """Name what an import built whole when it was killed before it could name it."""
        names = self.bases()
        for base in self.library.list():
            if base.id not in names.values() and base.name not in names:
                self.note("image-imported", None, image=base.name, base=base.id[:16])
                self.store.name_base(base.name, base.id)

    def close(self) -> None:
        """Write what is aggregated, close the store, release the directory."""
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
        change, known = self._known
        if change != snapshot.change:
            known = {}
            self._known = (snapshot.change, known)
            self._forget_boots()
        fixed = known.get(name)
        if fixed is None:
            host = snapshot.hosts.get(name)
            if host is None:
                raise NotFound(name, "no host of this name is in the inventory", "see 'provision host list'")
            revision = snapshot.revisions[name]
            fixed = known[name] = (host, revision, _missing(host, snapshot), _identity(host, revision, snapshot))
        boots = self._charged_boots(name)
        return HostState(*fixed, self.store.window(name), boots, self._heard(name, fixed[0]))

    def _heard(self, name: str, host: Host) -> datetime | None:
        """When the host last said that it is up. What it said to an earlier process is not known, so that for a moment
        every host that ever came up counts as up: one that is will have said so again by then."""
        heard, serving = self.alive.heard(name), self._serving
        if serving is None:
            return heard
        if abs(self.clock() - serving) >= timedelta(seconds=self.site.policy.alive_seconds):
            self._serving = None
            return heard
        if not self.has_agent(host) or all(boot.up is None for boot in self.store.boots(name)):
            return heard
        return max(serving, heard or serving)

    def has_agent(self, host: Host) -> bool:
        """Whether the host's image says of itself that it goes on saying that it is up."""
        with suppress(NotFound, Unavailable):
            return ALIVE in self.base_of(host).features
        return False

    def state_by_mac(self, mac: str | None) -> HostState | None:
        """The host that has the NIC `mac`, or None."""
        name = self.store.snapshot.by_mac.get(mac) if mac else None
        return self.state(name) if name else None

    def _charged_boots(self, name: str) -> tuple[Boot, ...]:
        with suppress(KeyError):
            return self._charged[name]
        before = self._forgotten
        boots = self.store.boots(name)
        found = tuple(boot for boot in boots if boot.charged and not boot.up and boot.medium.from_network)
        with self._charged_lock:
            if before == self._forgotten:
                self._charged[name] = found
        return found

    def forget_boot(self, name: str) -> None:
        """Read the host's charged boots again: one was charged, or is up."""
        with self._charged_lock:
            self._charged.pop(name, None)
            self._forgotten += 1

    def _forget_boots(self) -> None:
        with self._charged_lock:
            self._charged.clear()
            self._forgotten += 1

    def base_of(self, host: Host | None) -> BaseImage:
        """The base image of `host`, or of the site for a machine that is not known; raises NotFound."""
        name = (host.base if host else None) or self.site.base
        base_id = self.bases().get(name) if name else None
        if name is None or base_id is None:
            known = ", ".join(sorted(self.bases())) or "none"
            subject = host.name if host else "site"
            fact = f"its base image '{name}' is not imported (there: {known})" if name else "no base image is named"
            raise NotFound(subject, fact, "run 'provision image import', or correct 'base'")
        return self.base(base_id)

    def base(self, base_id: str) -> BaseImage:
        """A base image by its id; raises Unavailable when it was found damaged. A file of it that went missing since
        shows when it is read: looking costs too much here."""
        self.scrub.require(base_id)
        found = self._bases.get(base_id)
        if found is None:
            found = self._bases[base_id] = self.library.get(base_id)
        return found

    # Decisions

    @staticmethod
    def carries_key(channel: Channel) -> bool:
        """Whether media for this channel carry the phone-home key: never on a general network."""
        return channel.kind is not ChannelKind.GENERAL

    def payload(self, state: HostState, channel: Channel) -> Payload:
        """What the bytes of this host's media would carry in clear on that channel."""
        return Payload(secrets_in_clear=bool(state.host.credentials) or self.carries_key(channel))

    def decide(
        self,
        state: HostState | None,
        medium: Medium,
        channel: Channel,
        requester: Requester,
        *,
        durable: bool = False,
        counted: bool = False,
    ) -> Release | Denial:
        """Decide and record. When the audit log cannot be written this raises Unavailable: the answer is no.

        A `durable` release is on disk before anything is given away; of those that are `counted`, the first of a
        minute is, and how many more there were follows.
        """
        payload = self.payload(state, channel) if state else Payload(secrets_in_clear=True)
        now = self.clock()
        answer = policy.decide(state, self.site, medium, channel, requester, payload, now)
        event = {
            "time": now,
            "event": "decision",
            "host": state.host.name if state else None,
            "medium": str(medium),
            "channel": str(channel),
            "address": str(requester.address) if requester.address else None,
            "mac": requester.mac,
            "operator": requester.operator,
        }
        if isinstance(answer, Denial):
            if answer.passes:
                self.alerts.raise_(answer.subject, answer.rule, str(answer), now)
            event |= {"answer": "denied", "rule": answer.rule, "reason": str(answer)}
            # The host of a refused machine is what it claims, so it may be made up like an address.
            if not self._denied.admit((str(requester.address), requester.mac or "", answer.subject), now):
                others = "too many different machines; these are counted only"
                event |= {"host": None, "address": None, "mac": None, "reason": others}
        else:
            event |= {"answer": "released", "revision": answer.revision[:16]}
        # Denials cost whoever asks nothing, so each of them on disk would let anyone fill it.
        released = isinstance(answer, Release)
        self.audit.record(event, durable=durable and released, counted=counted or not (durable and released))
        return answer

    def note(self, event: str, operator: str | None, **fields: str | int | None) -> None:
        """Record something that is no decision but that an auditor wants to see (a window opened, an override)."""
        self.audit.record({"time": self.clock(), "event": event, "operator": operator, **fields}, durable=True)

    # Where this server is reached

    def endpoint(self, network: str) -> Endpoint | None:
        """The address and HTTP port of this server on `network`; None when it does not serve it, or cannot now."""
        found = self._place(network)
        return found if isinstance(found, Endpoint) else None

    def required_endpoint(self, network: str) -> Endpoint | None:
        """The same for what must not be left out by mistake.

        Raises Unavailable when the interface is to blame, and Invalid when [[listen]] names a network that is not.
        """
        there = self.site.networks
        if strange := [listen.network for listen in self.settings.listen if listen.network not in there]:
            fact = f"[[listen]] names it, and the inventory does not (there: {', '.join(there)})"
            raise Invalid(f"network '{strange[0]}'", fact, "correct provision.toml, and restart a running service")
        found = self._place(network)
        if isinstance(found, Unavailable):
            raise found
        return found

    def _place(self, network: str) -> Endpoint | Unavailable | None:
        with suppress(KeyError):
            return self._endpoints[network]
        listen = next((one for one in self.settings.listen if one.network == network), None)
        found: Endpoint | Unavailable | None = None
        if listen is not None and network in self.site.networks:
            binding = Binding(network, self.site.networks[network].role, listen.interface, listen.address)
            try:
                found = Endpoint(listen.interface, listen.address or address_of(look(), binding), listen.http_port)
            except Unavailable as error:
                found = error
        self._endpoints[network] = found
        return found

    def forget_endpoints(self) -> None:
        """Look again: interfaces or networks have changed."""
        self._endpoints.clear()
        self._boot_servers.clear()

    def boot_servers(self, host: Host) -> tuple[BootServer, ...]:
        """The boot listeners that give secrets away, on the networks of this host: what it is to keep others off."""
        known = self._boot_servers.get(host.name)
        if known is not None and known[0] is host and known[1] is self.site:
            return known[2]
        networks = self.site.networks
        own = {i.network for i in host.interfaces.values() if i.network}
        found = tuple(
            BootServer(there.address, there.port, listen.tftp_port, listen.tftp_ports)
            for listen in self.settings.listen
            if listen.network in own and networks[listen.network].role is Role.MANAGEMENT
            if (there := self.endpoint(listen.network)) is not None
        )
        self._boot_servers[host.name] = (host, self.site, found)
        return found

    def window_default(self) -> tuple[timedelta, int]:
        """The site's default window: how long, and how many boots."""
        return timedelta(minutes=self.site.policy.window_minutes), self.site.policy.window_boots


def _open_audit(path: Path, key: MasterKey) -> Audit:
    try:
        return Audit(path, key)
    except Unavailable as error:
        # Nothing is decided without it, but an operator must be able to see what is wrong with it.
        return ClosedAudit(path, key, error)


def _identity(host: Host, revision: str, snapshot: Snapshot) -> str:
    base = host.base or (snapshot.site.base if snapshot.site else None)
    return hashlib.sha256(f"{revision} {snapshot.bases.get(base or '')}".encode()).hexdigest()


def _missing(host: Host, snapshot: Snapshot) -> tuple[str, ...]:
    have = snapshot.credentials.get(host.name, {})
    missing = [f"its credential '{name}'" for name in host.credentials if name not in have]
    base = host.base or (snapshot.site.base if snapshot.site else None)
    if base is None:
        missing.append("a base image (none is named)")
    elif base not in snapshot.bases:
        missing.append(f"its base image '{base}'")
    return tuple(missing)
