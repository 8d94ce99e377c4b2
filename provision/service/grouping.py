"""Hosts of a whole site, counted by how they are and by a label; pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_NUMBER = re.compile("([0-9]{1,18})")
MOST = 60
"""Groups that are told apart; the rest of them, the smallest, are counted together. A picture of more is not read."""


class Condition(StrEnum):
    """How a host is, in a word; what needs somebody comes first."""

    STUCK = "stuck"
    BOOTING = "booting"
    UP = "up"
    READY = "ready to boot"
    IDLE = "idle"


@dataclass(frozen=True)
class Group:
    """The hosts with one value of the label: how many there are in each condition. `value` is None for those without
    the label; `others` is how many further values the group stands for, 0 for one of a single value."""

    value: str | None
    counts: Mapping[Condition, int]
    others: int = 0

    @property
    def total(self) -> int:
        """All hosts of the group."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Groups:
    """All hosts by the values of `label` ("" when no host has one); `labels` are those that there are."""

    label: str
    labels: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def all(self) -> Group:
        """Every host in one group."""
        return Group(None, _sum(self.groups))


def grouped(hosts: Sequence[tuple[Mapping[str, str], Condition]], label: str = "") -> Groups:
    """Hosts, each by its labels and its condition, by `label`; by the one that most hosts have when it is ""."""
    known = Counter(name for labels, _ in hosts for name in labels)
    label = label or min(known, key=lambda name: (-known[name], name), default="")
    counts: dict[str | None, Counter[Condition]] = {}
    for labels, condition in hosts:
        counts.setdefault(labels.get(label), Counter())[condition] += 1
    groups = [Group(value, found) for value, found in counts.items()]
    return Groups(label, tuple(sorted(known)), _bounded(groups))


def _bounded(groups: list[Group]) -> tuple[Group, ...]:
    """The groups by their values, numbers as numbers; of too many, the largest, and one of the others."""
    named = [group for group in groups if group.value is not None]
    largest = sorted(named, key=lambda group: (-group.total, _order(group)))
    shown, rest = sorted(largest[:MOST], key=_order), largest[MOST:]
    together = [Group(None, _sum(rest), len(rest))] if rest else []
    return (*shown, *together, *(group for group in groups if group.value is None))


def _sum(groups: Sequence[Group]) -> Mapping[Condition, int]:
    total: Counter[Condition] = Counter()
    for group in groups:
        total.update(group.counts)
    return total


def _order(group: Group) -> tuple[tuple[bool, int, str], ...]:
    """Numbers within a value count as numbers: rack2 comes before rack10."""
    parts = _NUMBER.split(group.value or "")
    return tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)
