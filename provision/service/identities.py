"""Identities on hosts' own disks: what hosts say of them, and whether they are what the server would give now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from provision.api import hosts as api
from provision.boot import Boot
from provision.host import Storage
from provision.policy import HostState
from provision.service.acts import act
from provision.service.alive import Message
from provision.service.core import Core
from provision.service.news import News
from provision.service.progress import Tracker
from provision.stored import Holds, Ordered, Refused, StoredIdentity, Wiped, comes_sealed, parse

Judge = Callable[[HostState], bool]
"""Says whether the identity on a host's disk is the very seed that it would get now."""


class Identities:
    """Takes what hosts say of the identities on their disks."""

    def __init__(self, core: Core, tracker: Tracker, news: News) -> None:
        self._core, self._tracker, self._news = core, tracker, news

    def said(self, message: Message, now: datetime) -> Ordered:
        """Take note of what a host says in a genuine message, and return what it is to do. Raises Invalid, and as news
        does."""
        report = parse(message.identity)
        known = self._core.store.identities.of(message.host)
        sealed = comes_sealed(message.boot)
        if sealed or isinstance(report, Holds):
            self._came_up(message, now)
        if isinstance(report, Holds):
            if report.refused:
                self._refused_seed(message, report.refused, now)
                report = replace(report, refused="")
            if known is None or (known.holds, known.boot) != (report, message.boot):
                with self._news.of(message):
                    return self._holds(message, report, now)
            return known.ordered
        if isinstance(report, Refused):
            self._refused(message, report, known, now)
        if isinstance(report, Wiped) and known is not None:
            with self._news.of(message):
                self._wiped(message.host)
        return Ordered.WIPE if report is None and sealed and self._keeps_a_key(message.host) else Ordered.NOTHING

    def is_news(self, message: Message) -> bool:
        """Whether something may have to be written when the host says what it has said before."""
        # What is refused is told again once its alert has ended.
        return "refused" in message.identity or self._coming_up(message) is not None

    def _keeps_a_key(self, host: str) -> bool:
        """Whether the host's TPM may keep a key that is worth nothing any more: it has no disk, and its TPM is enrolled
        no longer."""
        known = self._core.hosts.get(host)
        return known is not None and known.storage is Storage.NONE and not self._core.store.tpms.holds(host)

    def _wiped(self, host: str) -> None:
        store = self._core.store
        with self._core.act("identity-wiped", None, host=host):
            store.identities.remove(host)
            store.slots.remove(host)
        self._core.witness()
        self._forget_earlier(host, {})

    def _holds(self, message: Message, report: Holds, now: datetime) -> Ordered:
        core, host = self._core, message.host
        known = core.store.identities.of(host)
        ordered = known.ordered if known is not None else Ordered.NOTHING
        versions = " ".join(f"{name}={version}" for name, version in sorted(report.credentials.items()))
        with core.act("identity-stored", None, host=host, revision=report.revision[:16], versions=versions):
            network = self._network(host, message.boot)
            core.store.identities.put(host, StoredIdentity(message.boot, network, report, now, ordered))
        core.witness()
        self._forget_earlier(host, report.credentials)
        return ordered

    def _forget_earlier(self, host: str, held: Mapping[str, int]) -> None:
        """The host has these versions of its credentials: what was kept of any other is worth nothing to it."""
        core, earlier = self._core, self._core.store.earlier_credentials
        gone = sorted(name for name, version in earlier.of(host).items() if held.get(name) != version)
        if not gone:
            return
        told = [{"host": host, "credential": name} for name in gone]
        with act(core.audit, core.clock, "credential-rolled", None, told):
            earlier.forget_all_but(host, held)
        core.witness()

    def _network(self, host: str, boot: str) -> str:
        """The network of the boot from which the host has its seed; "" for a medium."""
        known = (one for one in self._core.store.boots.of(host) if one.label == boot)
        return next((one.network for one in known), "")

    def _refused_seed(self, message: Message, reason: str, now: datetime) -> None:
        host = message.host
        told = any(one.event == "seed-refused" for one in self._core.alerts.of(host, now))
        self._core.alerts.raise_(host, "seed-refused", f"it has not taken the seed of its last boot: {reason}", now)
        if told:
            return
        with self._core.act("seed-refused", None, host=host, boot=message.boot, reason=reason):
            pass
        self._core.witness()

    def _refused(self, message: Message, report: Refused, known: StoredIdentity | None, now: datetime) -> None:
        host = message.host
        told = any(one.event == "identity-refused" for one in self._core.alerts.of(host, now))
        self._core.alerts.raise_(host, "identity-refused", f"its identity is not stored: {report.reason}", now)
        if known is None and told:
            return
        with self._news.of(message):
            with self._core.act("identity-refused", None, host=host, reason=report.reason):
                self._core.store.identities.remove(host)
            self._core.witness()
            self._forget_earlier(host, {})

    def _coming_up(self, message: Message) -> Boot | None:
        """The boot of which this is the first word. A host that booted the image alone, or has opened an envelope, has
        no key to say once that it is up."""
        progress = self._tracker.of_host(message.host)
        if progress is None or progress.boot.up is not None:
            return None
        return progress.boot if progress.plain or comes_sealed(message.boot) else None

    def _came_up(self, message: Message, now: datetime) -> None:
        if self._coming_up(message) is None:
            return
        store = self._core.store
        with self._news.of(message):
            boot = self._coming_up(message)
            if boot is None:
                return
            with self._core.act("up", None, host=message.host, mac=boot.mac, medium=str(boot.medium)):
                store.boots.mark_up(boot, now)
            self._core.witness()
        self._core.charged.forget(message.host)
        self._tracker.update(replace(boot, up=now))


def shown_identity(state: HostState, is_current: Judge) -> api.StoredIdentity | None:
    """The identity on a host's disk, for operators."""
    stored = state.stored
    if stored is None:
        return None
    return api.StoredIdentity(
        revision=stored.holds.revision,
        credentials=dict(stored.holds.credentials),
        reported=stored.reported.isoformat(),
        current=is_current(state),
        wiping=stored.ordered is Ordered.WIPE,
        sealed=stored.is_sealed,
    )
