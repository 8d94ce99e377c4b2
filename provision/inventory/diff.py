"""What applying an inventory would change, and the inventory that comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from provision.document import dotted
from provision.errors import Problem, Problems
from provision.host import Host
from provision.inventory.rules import check
from provision.model import Model
from provision.site import Inventory

STORE = "(store)"
"""The "file" of hosts that stay because nothing pruned them."""


@dataclass(frozen=True)
class Change:
    """One field: its dotted path, and its old and new value as JSON has them; None where there is none."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {_shown(self.old)} -> {_shown(self.new)}"


@dataclass(frozen=True)
class Difference:
    """Host names sorted; `changed` has each changed host's fields, `site` the site's. False when nothing changes."""

    added: tuple[str, ...] = ()
    changed: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    site: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    """What applying it leaves to be done, for people."""

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.site)

    def lines(self) -> list[str]:
        """The difference for people: ``~`` changed, ``+`` added, ``-`` removed; the site first, then hosts by name."""
        marked = [(name, f"+ {name}") for name in self.added] + [(name, f"- {name}") for name in self.removed]
        marked += [(name, f"~ {name}: {change}") for name, changes in self.changed.items() for change in changes]
        return [f"~ site: {change}" for change in self.site] + [line for _, line in sorted(marked, key=lambda m: m[0])]


def difference(old: Inventory | None, new: Inventory) -> Difference:
    """What is different in `new`. `old` is None before anything has been applied; then the site is all new."""
    before = {host.name: host for host in old.hosts} if old else {}
    after = {host.name: host for host in new.hosts}
    changed = {name: tuple(_host_changes(before[name], host)) for name, host in sorted(after.items()) if name in before}
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        changed={name: changes for name, changes in changed.items() if changes},
        removed=tuple(sorted(before.keys() - after.keys())),
        site=tuple(_changes(_dump(old.site) if old else {}, _dump(new.site), "")),
    )


def merge(old: Inventory | None, new: Inventory, prune: bool) -> Inventory:
    """What the store holds then: `new`, and without `prune` also the hosts that only `old` has.

    Hosts that stay are checked again beside the new ones and on the new site. Raises Problems, in the "file"
    ``(store)``, when they no longer fit.
    """
    names = {host.name for host in new.hosts}
    kept = [host for host in old.hosts if host.name not in names] if old and not prune else []
    if not kept:
        return new
    problems = [
        Problem(STORE, 0, dotted(violation.path), violation.fact, _remedy(violation.remedy))
        for violation in check(new.site, [*new.hosts, *kept])
    ]
    if problems:
        raise Problems(problems)
    return Inventory(site=new.site, hosts=tuple(sorted([*new.hosts, *kept], key=lambda host: host.name)))


def needs_confirmation(change: Difference, old: Inventory | None) -> bool:
    """Whether `change` removes more than a tenth of the hosts of `old`."""
    return old is not None and len(change.removed) * 10 > len(old.hosts)


def _remedy(remedy: str) -> str:
    hint = "let --prune remove this host, which is in no file now"
    return f"{remedy}, or {hint}" if remedy else hint


def _host_changes(old: Host, new: Host) -> Iterator[Change]:
    order = list(old.interfaces), list(new.interfaces)
    if old == new and order[0] == order[1]:
        return
    yield from _changes(_dump(old), _dump(new), "")
    if order[0] != order[1] and set(order[0]) == set(order[1]):
        # The order of the interfaces says which one is primary.
        yield Change("interfaces", *order)


def _dump(model: Model) -> dict[str, Any]:
    return model.model_dump(mode="json")


def _changes(old: Any, new: Any, path: str) -> Iterator[Change]:
    """Mappings are compared key by key; one that appears or disappears is shown by its fields that say something."""
    if old == new:
        return
    if isinstance(old, dict | None) and isinstance(new, dict | None):
        left, right = old or {}, new or {}
        for key in dict.fromkeys([*left, *right]):
            yield from _changes(left.get(key), right.get(key), f"{path}.{key}" if path else key)
    elif _says(old) or _says(new):
        yield Change(path, old, new)


def _says(value: Any) -> bool:
    return value is not None and value != [] and value != {}


def brief(value: Any) -> Any:
    """A value of a change, with long texts such as certificates named by their SHA-256."""
    if isinstance(value, list):
        return [brief(item) for item in value]
    if isinstance(value, str) and ("\n" in value or len(value) > 120):
        return f"(text, SHA-256 {hashlib.sha256(value.encode()).hexdigest()[:16]})"
    return value


def _shown(value: Any) -> str:
    value = brief(value)
    if not _says(value):
        return "none"
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items() if _says(item)) + "}"
    return str(value)
