"""What an operator does with the inventory: look at the difference, apply it, read hosts."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address

from provision import netcheck
from provision.api import hosts as api
from provision.api.inventory import Change, Changes, Discrepancy
from provision.document import Source
from provision.errors import Conflict, Invalid, Problems
from provision.host import Host
from provision.inventory.diff import Change as FieldChange
from provision.inventory.diff import Difference, brief, difference, merge, needs_confirmation
from provision.inventory.parse import parse
from provision.principal import Principal
from provision.service import compatibility
from provision.service.core import Core
from provision.site import Inventory

_RESOLVER = re.compile(
    r"(?:\[(?P<six>[^\]]*:[^\]]*)\]|(?P<four>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?|(?P<bare>[^\[\]]*)"
)


class Inventories:
    """Applies inventories declaratively."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def current(self, principal: Principal) -> Inventory:
        """What was applied last, with the hosts that the principal sees; raises Conflict before the first time."""
        return Inventory(site=self._core.site, hosts=tuple(self._core.visible(principal)))

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
        if problems := compatibility.problems(self._core, merged, sealed):
            raise Problems(problems)
        changes = replace(difference(old, merged), notes=compatibility.left_behind(old, merged, sealed))
        return merged, changes, prune and needs_confirmation(changes, old)

    def apply(self, files: Sequence[Source], *, prune: bool, confirmed: bool, principal: Principal) -> Difference:
        """Make the difference, in one transaction. Raises Problems, or Conflict when it needs a yes and has none."""
        with self._core.lock, without_collector():
            merged, changes, confirm = self.preview(files, prune)
            if confirm and not confirmed:
                count = len(changes.removed)
                raise Conflict(
                    "inventory",
                    f"pruning would remove {count} hosts, more than a tenth of all",
                    "look at the difference with --dry-run, then say --yes",
                )
            self._make(merged, changes, principal)
            return changes

    def _make(self, merged: Inventory, changes: Difference, principal: Principal) -> None:
        if not changes:
            return
        numbers = {"added": len(changes.added), "changed": len(changes.changed), "removed": len(changes.removed)}
        with self._core.act("apply", principal, **numbers):
            self._core.store.hosts.apply(merged, principal)
        self._core.witness()

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

    def host(self, name: str, principal: Principal) -> api.HostDetail:
        """One host with its revision and what its image lacks; raises NotFound."""
        host, revision, missing = self._core.described(name, principal)
        fields = {name: getattr(host, name) for name in Host.model_fields}
        return api.HostDetail(**fields, revision=revision, missing=missing)

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
        """DNS against the inventory, and whether the disk will last.

        `server` is the resolver to ask: ADDRESS, ADDRESS:PORT or [IPV6]:PORT.
        """
        resolvers = [_resolver(server)] if server is not None else None
        found = [(f.subject, f.fact, f.remedy) for f in netcheck.check(self.current(principal), resolvers)]
        found += [(w.subject, w.fact, w.remedy) for w in self._core.warnings()]
        return [Discrepancy(subject=subject, fact=fact, remedy=remedy) for subject, fact, remedy in found]


def shown(changes: Difference, *, applied: bool, confirm: bool) -> Changes:
    """A difference for operators: whether it was `applied`, or needs to be confirmed."""
    return Changes(
        added=changes.added,
        removed=changes.removed,
        changed={name: _fields(fields) for name, fields in changes.changed.items()},
        site=_fields(changes.site),
        lines=tuple(changes.lines()),
        notes=changes.notes,
        applied=applied,
        confirm=confirm,
    )


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
