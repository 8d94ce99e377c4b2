"""What ends by itself: certificates and tokens. Operators hear of it before, each time it comes nearer, once.

Keytabs say of no day when they end: a realm's own policy may change a key at any time. What is known of one is when it
was sealed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from provision import pem
from provision.errors import ProvisionError, Unavailable
from provision.principal import Principal
from provision.service.core import Core
from provision.service.listeners import Listeners
from provision.tls import files
from provision.tls.authority import Kind as Chain

NOTICE_DAYS = (30, 7, 1)
"""So long before something ends it is said that it does."""
_SOON = timedelta(days=max(NOTICE_DAYS))
_SHOWN = 20
"""Warnings that are told apart; how many more there are is one more."""


class Kind(StrEnum):
    """What ends."""

    API = "api-certificate"
    CA = "ca"
    SITE_CA = "site-ca"
    HOST = "host-certificate"
    TOKEN = "token"


@dataclass(frozen=True)
class Expiry:
    """Something that `ends`: a host's credential when it has a `host`. `name` is unique among those of its kind and
    host."""

    kind: Kind
    name: str
    ends: datetime
    host: str | None = None

    @property
    def subject(self) -> str:
        """What it is called."""
        words = {
            Kind.API: f"certificate of {self.name}",
            Kind.CA: f"internal CA for {self.name}",
            Kind.SITE_CA: f"CA certificate {self.name} of the site",
            Kind.HOST: f"certificate '{self.name}' of {self.host}",
            Kind.TOKEN: f"token '{self.name}'",
        }
        return words[self.kind]

    @property
    def remedy(self) -> str:
        """The way out."""
        words = {
            Kind.API: "put a new one in its place, or 'provision ca renew'",
            Kind.CA: "let clients trust its successor before that; see 'provision ca show'",
            Kind.SITE_CA: "put its successor into site.ca_certificates and apply",
            Kind.HOST: f"seal a new one: 'provision credential set {self.host} {self.name} --file FILE'",
            Kind.TOKEN: "make another one: 'provision token create'",
        }
        return words[self.kind]

    def warning(self, now: datetime) -> ProvisionError:
        """What an operator is told."""
        ends = "has expired" if self.ends <= now else "expires"
        return ProvisionError(self.subject, f"{ends} on {self.ends:%Y-%m-%d}", self.remedy)


class Expiries:
    """Knows everything that ends, and says so in time."""

    def __init__(self, core: Core, listeners: Listeners = dict) -> None:
        self._core, self._listeners = core, listeners
        # What changes only with the inventory and the credentials, and the snapshot's count that it belongs to.
        self._known: tuple[int, tuple[Expiry, ...], datetime | None] = (-1, (), None)

    def all(self) -> Iterator[Expiry]:
        """Everything that ends. Raises Unavailable when the store cannot be read."""
        for name, listening in self._listeners().items():
            if listening.expires is not None:
                yield Expiry(Kind.API, name, listening.expires)
        for chain in Chain:
            with suppress(ProvisionError):  # there is none, or 'provision ca show' says what is wrong with it
                root, _ = files.read(self._core.settings.state, chain)
                yield Expiry(Kind.CA, str(chain), root.not_valid_after_utc)
        for token, _ in self._core.store.tokens.all():
            yield Expiry(Kind.TOKEN, token.name, token.expires)
        yield from self._of_inventory()[0]

    def first(self) -> dict[str, datetime]:
        """When the first of each kind ends; of a store that cannot be read, what is known without it."""
        found: dict[str, datetime] = {}
        with suppress(Unavailable):
            for one in self.all():
                found[str(one.kind)] = min(one.ends, found.get(str(one.kind), one.ends))
        return found

    def oldest_keytab(self) -> datetime | None:
        """When the oldest keytab that a host has was sealed; None without one, and while the store cannot be read."""
        with suppress(Unavailable):
            return self._of_inventory()[1]
        return None

    def warnings(self, principal: Principal) -> list[ProvisionError]:
        """What ends soon of what the principal sees: everything, or certificates of its hosts and its own token. The
        API itself warns of its certificates."""
        now = self._core.clock()
        try:
            soon = [one for one in self.all() if one.ends - now < _SOON and one.kind is not Kind.API]
        except Unavailable:
            return []  # what is wrong is said elsewhere
        seen = sorted((one for one in soon if self._sees(principal, one)), key=lambda one: (one.ends, one.subject))
        told = [one.warning(now) for one in seen[:_SHOWN]]
        if len(seen) > _SHOWN:
            fact = f"{len(seen) - _SHOWN} more expire within {_SOON.days} days"
            told.append(ProvisionError("certificates and tokens", fact, "see 'provision credential list'"))
        return told

    def _sees(self, principal: Principal, one: Expiry) -> bool:
        if not principal.selector:
            return True
        if one.kind is Kind.TOKEN:
            return principal.name == f"token:{one.name}"
        host = self._core.hosts.get(one.host or "")
        return host is not None and principal.sees(host.labels)

    def notify(self) -> None:
        """Let the audit log say of what ends soon that it does, once for each of NOTICE_DAYS. Raises Unavailable."""
        core, now = self._core, self._core.clock()
        said, kept = core.store.expiry_notices.all(), dict[str, int]()
        for one in self.all():
            key = f"{one.kind} {one.host or ''} {one.name} {one.ends.isoformat()}"
            near = [days for days in NOTICE_DAYS if one.ends - now <= timedelta(days=days)]
            if not near:
                continue  # what was said of it by a clock that was ahead is said again in its time
            if key not in said or min(near) < said[key]:
                # Not each on the disk before the next: a whole site may have got its certificates on one day.
                about = {"host": one.host, "kind": str(one.kind), "subject": one.subject, "days": min(near)}
                event = {"time": now, "event": "credential-expiring", **about, "reason": str(one.warning(now))}
                core.audit.record(event, counted=False)
            kept[key] = min(near)
        if kept != said:
            core.store.expiry_notices.keep(kept)

    def _of_inventory(self) -> tuple[tuple[Expiry, ...], datetime | None]:
        """The certificates of hosts and site, and when the oldest keytab was sealed."""
        snapshot = self._core.store.snapshot
        change, found, keytab = self._known
        if change != snapshot.change:
            ends, keytab = self._core.store.credentials.ages()
            hosts = [Expiry(Kind.HOST, name, moment, host) for host, name, moment in ends]
            found = (*hosts, *self._of_site())
            self._known = (snapshot.change, found, keytab)
        return found, keytab

    def _of_site(self) -> Iterator[Expiry]:
        site = self._core.store.snapshot.site
        for text in site.ca_certificates if site is not None else ():
            for certificate in pem.certificates(text.encode()):
                # Its own name is a stranger's text.
                name = hashlib.sha256(text.encode()).hexdigest()[:16]
                yield Expiry(Kind.SITE_CA, name, certificate.not_valid_after_utc)
