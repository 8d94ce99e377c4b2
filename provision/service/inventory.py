"""What an operator does with the inventory: look at the difference, apply it, read hosts."""

from __future__ import annotations

import gc
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

from provision import netcheck
from provision.api import hosts as api
from provision.api.inventory import Change, Changes, Discrepancy
from provision.document import Source, dotted
from provision.errors import Conflict, Denied, Invalid, Outdated, Problem, Problems
from provision.host import Host
from provision.inventory import replacement
from provision.inventory.diff import STORE, Difference, brief, difference, merge, needs_confirmation
from provision.inventory.diff import Change as FieldChange
from provision.inventory.parse import parse
from provision.inventory.rules import check
from provision.model import nic_address
from provision.principal import Principal, spelled
from provision.service import compatibility, enrolment
from provision.service.core import Core
from provision.service.expiries import Expiries
from provision.service.identities import shown_identity
from provision.service.media_builder import MediaBuilder
from provision.service.updates import shown_slots
from provision.site import Inventory


@dataclass(frozen=True)
class Replacement:
    """A host as it is with the NIC `new` instead of `old`, and what that makes of the inventory."""

    host: Host
    old: str
    new: str
    inventory: Inventory
    changes: Difference


_RESOLVER = re.compile(
    r"(?:\[(?P<six>[^\]]*:[^\]]*)\]|(?P<four>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?|(?P<bare>[^\[\]]*)"
)
NOTHING = '"nothing"'
"""The entity tag of an inventory that nobody has applied yet."""
Fits = Callable[[str], bool]
"""Whether the inventory with that entity tag may be changed."""


def whatever(tag: str) -> bool:
    """Any may."""
    return True


class Inventories:
    """Applies inventories declaratively."""

    def __init__(self, core: Core, builder: MediaBuilder) -> None:
        self._core, self._builder = core, builder

    def current(self, principal: Principal) -> Inventory:
        """What was applied last, with the hosts that the principal sees; raises Conflict before the first time."""
        there = self._core.store.hosts.inventory()
        if there is None:
            return Inventory(site=self._core.site, hosts=())  # which says why
        return there.model_copy(update={"hosts": tuple(host for host in there.hosts if principal.sees(host.labels))})

    def tag(self) -> str:
        """The entity tag of the whole inventory as it is now."""
        inventory = self._core.store.hosts.inventory()
        return entity_tag(inventory) if inventory is not None else NOTHING

    def preview(self, files: Sequence[Source], prune: bool) -> tuple[Inventory, Difference, bool]:
        """What `files` would make of the store: the result, the difference, and whether pruning it needs a yes.

        Raises Problems with every problem of the files, or with all that does not fit what the store holds.
        """
        with without_collector():
            return self._compared(parse(files, self._core.clock()), prune)

    def _compared(self, new: Inventory, prune: bool) -> tuple[Inventory, Difference, bool]:
        old = self._core.store.hosts.inventory()
        merged = merge(old, new, prune)
        sealed = self._core.store.credentials.places()
        effective, moved = self._as_moved(merged)
        if problems := compatibility.problems(self._core, effective, sealed):
            raise Problems(problems)
        notes = (*compatibility.left_behind(old, merged, sealed), *moved)
        changes = replace(difference(old, merged), notes=notes)
        return merged, changes, prune and needs_confirmation(changes, old)

    def _as_moved(self, merged: Inventory) -> tuple[Inventory, tuple[str, ...]]:
        """The inventory with the bases that a roll-out has given to hosts, and what is to be said of that."""
        moved = self._core.store.snapshot.moved
        others = {h.name for h in merged.hosts if h.name in moved and (h.base or merged.site.base) != moved[h.name]}
        if not others:
            return merged, ()
        hosts = tuple(h.model_copy(update={"base": moved[h.name]}) if h.name in others else h for h in merged.hosts)
        base = moved[min(others)]
        note = f"hosts that keep the base '{base}' of a roll-out: {len(others)}; see 'provision rollout status'"
        return Inventory(site=merged.site, hosts=hosts), (note,)

    def apply(
        self,
        files: Sequence[Source],
        *,
        prune: bool,
        confirmed: bool,
        principal: Principal,
        fits: Fits = whatever,
    ) -> tuple[Difference, str]:
        """Make the difference, in one transaction, and return it with the entity tag of what it makes.

        Raises Problems, Conflict when it needs a yes and has none, and Outdated when the entity tag of the present
        inventory does not `fit` what it is to be made to.
        """
        with self._core.lock, without_collector():
            self.require(fits, "look at the difference to what is there now, and apply again")
            merged, changes, confirm = self.preview(files, prune)
            if confirm and not confirmed:
                count = len(changes.removed)
                raise Conflict(
                    "inventory",
                    f"pruning would remove {count} hosts, more than a tenth of all",
                    "look at the difference with --dry-run, then give --yes",
                )
            self._make(merged, changes, principal)
            return changes, entity_tag(merged)

    def require(self, fits: Fits, remedy: str = "look at what it changes now, and do it again") -> None:
        """Raise Outdated when the entity tag of the present inventory does not fit."""
        if not fits(self.tag()):
            raise Outdated("inventory", "somebody has changed it since you looked at it", remedy)

    def _make(self, merged: Inventory, changes: Difference, principal: Principal) -> None:
        if not changes:
            return
        numbers = {"added": len(changes.added), "changed": len(changes.changed), "removed": len(changes.removed)}
        with self._core.act("apply", principal, **numbers):
            # Slots of the other kind are another disk's; a host that still runs from one says so again. In one step:
            # whoever is killed has not taken from a host what it falls back to.
            slots = self._core.store.slots
            endings = [partial(slots.removing, host=name) for name in self._changing_chain(merged)]
            self._core.store.hosts.apply(merged, principal, endings)
        self._core.witness()

    def _changing_chain(self, merged: Inventory) -> list[str]:
        """The hosts with slots that are to start by another chain."""
        known, slots = self._core.store.hosts.inventory(), self._core.store.slots
        before = {host.name: host.chain for host in known.hosts} if known is not None else {}
        changing = (host.name for host in merged.hosts if before.get(host.name, host.chain) is not host.chain)
        return [name for name in changing if slots.of(name) is not None]

    def adoption(self, host: Host) -> tuple[Inventory, Difference]:
        """What one host more would make of the store, and the difference. Raises Conflict for a name or a NIC that is
        taken, and Problems with all that does not fit."""
        if host.name in self._core.hosts:
            raise Conflict(host.name, "a host of this name is in the inventory", "choose another name")
        for mac in host.macs:
            if (other := self._core.state_by_mac(mac)) is not None:
                raise Conflict(mac, f"is a NIC of {other.host.name} by now", "look at that host")
        with without_collector():
            merged, changes, _ = self._compared(Inventory(site=self._core.site, hosts=(host,)), prune=False)
        return merged, changes

    def adopt(self, host: Host, principal: Principal) -> Difference:
        """Take one host more into the inventory. Raises like `adoption`."""
        with self._core.lock:
            merged, changes = self.adoption(host)
            self._make(merged, changes, principal)
        return changes

    def replacement(self, name: str, old: str, new: str, principal: Principal) -> Replacement:
        """What it changes that a NIC of the host, by its MAC or its interface, is the one with the MAC `new` now.

        Raises NotFound and Invalid for `old`, Denied for who does not see all hosts, Conflict when `new` is a NIC of
        some host, and Problems with all that does not fit.
        """
        host = self.exchanging(name, principal)
        mac, new = replacement.nic(host, old), nic_address(new)
        host = replacement.replaced(host, mac, new)
        self.require_free(new)
        merged, changes = self.with_host(host)
        moved = enrolment.of_moved(self._core, name)
        changes = replace(changes, notes=(*changes.notes, *moved, self._sighting(new)))
        return Replacement(host, mac, new, merged, changes)

    def exchanging(self, name: str, principal: Principal) -> Host:
        """The host whose NICs are to be exchanged. Raises NotFound, and Denied for who does not see all hosts."""
        host = self._core.seen(name, principal).host
        if principal.selector:
            fact = f"sees only hosts with {spelled(principal.selector)}, and the new NIC may be another's"
            raise Denied(principal.name, fact, "let somebody do it whose token has no selector", "selector")
        return host

    def require_free(self, mac: str) -> None:
        """Raise Conflict when the MAC is a NIC of some host."""
        if (other := self._core.store.snapshot.by_mac.get(mac)) is not None:
            raise Conflict(mac, f"is a NIC of {other}", "look at that host, or replace its NIC first")

    def with_host(self, host: Host) -> tuple[Inventory, Difference]:
        """The inventory with the host as it is here, and what that changes. Raises Problems with all that does not
        fit."""
        hosts = tuple(host if one.name == host.name else one for one in self._core.hosts.values())
        with without_collector():
            if problems := [Problem(STORE, 0, dotted(v.path), v.fact, v.remedy) for v in check(self._core.site, hosts)]:
                raise Problems(problems)
            merged, changes, _ = self._compared(Inventory(site=self._core.site, hosts=hosts), prune=False)
        return merged, changes

    def _sighting(self, mac: str) -> str:
        """Where the NIC that is there now has been seen."""
        for seen in self._core.store.sightings.all():
            if seen.mac == mac:
                return f"an unknown machine with the MAC {mac} has asked for a boot on network '{seen.network}'"
        return f"no machine with the MAC {mac} has asked for a boot yet"

    def replace_mac(self, name: str, old: str, new: str, principal: Principal, fits: Fits = whatever) -> Replacement:
        """Replace a NIC of the host; its window is closed, and links to it are revoked. Raises like `replacement`, and
        Outdated as `apply` does."""
        core, store = self._core, self._core.store
        with core.lock:
            self.exchanging(name, principal)
            self.require(fits)
            made = self.replacement(name, old, new, principal)
            with core.act("mac-replaced", principal, host=name, mac=made.new, replaced=made.old):
                # First: whoever is killed in between leaves nothing that is good for the NIC of before.
                store.windows.close(name)
                for link in store.links.standing(name):
                    store.links.revoke(link.id)
                store.hosts.apply(made.inventory, principal)
            core.witness()
        return made

    def host(self, name: str, principal: Principal) -> api.HostDetail:
        """One host with its revision and what its image lacks; raises NotFound."""
        host, revision, missing = self._core.described(name, principal)
        fields = {name: getattr(host, name) for name in Host.model_fields}
        fields["base"] = self._core.base_name_of(host)
        fields["tpm_standing"] = enrolment.described(self._core, name)
        held = self._core.store.identities.of(name) is not None
        stored = shown_identity(self._core.state(name), self._builder.is_current) if held else None
        slots = shown_slots(self._core, name)
        return api.HostDetail(**fields, revision=revision, missing=missing, stored=stored, slots=slots)

    def hosts(self, principal: Principal, label: str | None = None, value: str | None = None) -> list[api.HostRow]:
        """All hosts in short that the principal sees, or those with a label."""
        return [
            api.HostRow(
                name=host.name,
                macs=host.macs,
                install=host.install,
                addressing=host.primary.addressing,
                storage=host.storage,
                netboot=host.netboot,
                labels=host.labels,
            )
            for host in self._core.visible(principal)
            if label is None or host.labels.get(label) == value
        ]

    def check(self, server: str | None, principal: Principal) -> list[Discrepancy]:
        """DNS against the inventory, whether the disk will last, and what expires soon.

        `server` is the resolver to ask: ADDRESS, ADDRESS:PORT or [IPV6]:PORT.
        """
        resolvers = [_resolver(server)] if server is not None else None
        found = [(f.subject, f.fact, f.remedy) for f in netcheck.check(self.current(principal), resolvers)]
        warnings = [*self._core.warnings(), *Expiries(self._core).warnings(principal)]
        found += [(w.subject, w.fact, w.remedy) for w in warnings]
        return [Discrepancy(subject=subject, fact=fact, remedy=remedy) for subject, fact, remedy in found]


def entity_tag(inventory: Inventory) -> str:
    """What stands for an inventory and for no other: a strong entity tag (RFC 9110 section 8.8.3)."""
    digest = hashlib.sha256(inventory.site.revision.encode())
    for host in sorted(inventory.hosts, key=lambda host: host.name):
        digest.update(host.revision.encode())
    return f'"{digest.hexdigest()[:32]}"'


def shown(changes: Difference, *, applied: bool, confirm: bool, tag: str) -> Changes:
    """A difference for operators: whether it was `applied`, or needs to be confirmed; `tag` is of what there is now."""
    return Changes(
        added=changes.added,
        removed=changes.removed,
        changed={name: _fields(fields) for name, fields in changes.changed.items()},
        site=_fields(changes.site),
        lines=tuple(changes.lines()),
        notes=changes.notes,
        applied=applied,
        confirm=confirm,
        etag=tag,
    )


def replaced(made: Replacement, *, applied: bool, tag: str) -> api.ReplacedMac:
    """A replacement for operators, with the NICs of the interfaces that it touches; `tag` as in `shown`."""
    own = {name: one.macs for name, one in made.host.interfaces.items() if made.new in one.macs}
    changes = shown(made.changes, applied=applied, confirm=False, tag=tag)
    return api.ReplacedMac(host=made.host.name, old=made.old, new=made.new, interfaces=own, changes=changes)


def _fields(changes: Iterable[FieldChange]) -> tuple[Change, ...]:
    return tuple(Change(path=c.path, old=brief(c.old), new=brief(c.new)) for c in changes)


def _resolver(text: str) -> tuple[str, int]:
    found = _RESOLVER.fullmatch(text)
    six, four, bare, port = found.group("six", "four", "bare", "port") if found else (None, None, "", None)
    try:
        if port is None or 1 <= int(port) <= 65535:
            return str(ip_address(six or four or bare)), int(port or 53)
        fact = f"port {port} is not in 1 to 65535"
    except ValueError:
        fact = "is not ADDRESS, ADDRESS:PORT or [IPV6]:PORT"
    raise Invalid("server", fact, "such as 10.20.0.2:53 or [2001:db8::2]:53")


@contextmanager
def without_collector() -> Iterator[None]:
    """An inventory is a great many objects and no cycles; the collector would walk through all of them repeatedly."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
