"""What an operator does with the inventory: look at the difference, apply it, read hosts."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from provision.document import Source
from provision.errors import Conflict, Problems
from provision.inventory.diff import Difference, difference, merge, needs_confirmation
from provision.inventory.parse import parse
from provision.service import compatibility
from provision.service.core import Core
from provision.site import Inventory


class Inventories:
    """Applies inventories declaratively."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def current(self) -> Inventory:
        """What was applied last; raises Conflict before the first time."""
        return Inventory(site=self._core.site, hosts=tuple(self._core.hosts.values()))

    def preview(self, files: Sequence[Source], prune: bool) -> tuple[Inventory, Difference, bool]:
        """What `files` would make of the store: the result, the difference, and whether pruning it needs a yes.

        Raises Problems with every problem of the files, or with all that does not fit what the store holds.
        """
        with without_collector():
            new = parse(files, self._core.clock())
            old = self._core.store.hosts.inventory()
            merged = merge(old, new, prune)
            sealed = self._core.store.credentials.places()
            if problems := compatibility.problems(self._core, merged, sealed):
                raise Problems(problems)
            changes = replace(difference(old, merged), notes=compatibility.left_behind(old, merged, sealed))
            return merged, changes, prune and needs_confirmation(changes, old)

    def apply(self, files: Sequence[Source], *, prune: bool, confirmed: bool, actor: str) -> Difference:
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
            if changes:
                numbers = {
                    "added": len(changes.added),
                    "changed": len(changes.changed),
                    "removed": len(changes.removed),
                }
                with self._core.act("apply", actor, **numbers):
                    self._core.store.hosts.apply(merged, actor)
                self._core.witness()
            return changes

    def host(self, name: str) -> dict[str, Any]:
        """One host as JSON, with its revision and what its image lacks."""
        state = self._core.state(name)
        return {
            **state.host.model_dump(mode="json"),
            "revision": state.revision,
            "missing": list(state.missing),
        }

    def hosts(self, label: str | None = None, value: str | None = None) -> list[dict[str, Any]]:
        """All hosts in short, or those with a label."""
        return [
            {
                "name": host.name,
                "macs": list(host.macs),
                "install": str(host.install),
                "addressing": str(host.primary.addressing) if host.primary.addressing else None,
                "storage": str(host.storage),
                "netboot": str(host.netboot),
                "labels": dict(host.labels),
            }
            for host in self._core.hosts.values()
            if label is None or host.labels.get(label) == value
        ]


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
