"""Which file a change comes from, so that people see the difference of each file that they apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from provision.document import Source, read
from provision.inventory.diff import Difference

REMOVED = ""
"""Stands for the file of hosts that are in none any more."""


def by_file(files: Sequence[Source], changes: Difference) -> list[tuple[str, list[str]]]:
    """The lines of a difference by the file in which the host, or the site, is written, in the order of the files.

    Those of removed hosts come last, under REMOVED. A host is also changed by its groups and defaults, wherever they
    are.
    """
    hosts, site = _written(files)
    parts = [(file.name, _part(changes, file.name, hosts, site)) for file in files]
    if changes.removed:
        parts.append((REMOVED, Difference(removed=changes.removed)))
    return [(name, part.lines()) for name, part in parts]


def _written(files: Sequence[Source]) -> tuple[Mapping[str, str], str]:
    """The file of each host, and that of the site."""
    hosts: dict[str, str] = {}
    site = ""
    for file in files:
        root = read(file).root
        if root is None or not isinstance(root.value, dict):
            continue
        if "site" in root.value:
            site = site or file.name
        here = root.value.get("hosts")
        if here is not None and isinstance(here.value, dict):
            hosts |= dict.fromkeys(here.value, file.name)
    return hosts, site


def _part(changes: Difference, file: str, hosts: Mapping[str, str], site: str) -> Difference:
    return Difference(
        added=tuple(name for name in changes.added if hosts.get(name) == file),
        changed={name: fields for name, fields in changes.changed.items() if hosts.get(name) == file},
        site=changes.site if site == file else (),
    )
