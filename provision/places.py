"""Who gets one of a bounded number of places, and who gives way for whom: connections and transfers of one listener.

Peers are counted by what cannot be had in plenty: the MAC that the kernel has for an address, not the address. Who has
no MAC (a forged source, or the kernel's notifications of it are not here yet) shares one small bound with all the
others like that. MACs can be invented, too, so all those that the inventory does not have fill no more than half of the
places.

A connection that makes no progress gives way first. What gets on gives way to nobody, but for strangers to hosts of the
inventory, and for a stranger with many places to one with fewer. Nothing here waits, or knows what a place is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

WAITING_SECONDS = 1.0
"""How long a connection that has not begun need not give way: a request is on its way, or the peer's MAC is."""

STALL_SECONDS = 3.0
"""Without progress for so long a peer counts as stalled: twice what the first two packets lost cost TFTP."""

CRAWL = 4096
"""Bytes a second below which a peer, watched for `CRAWL_SECONDS`, counts as stalled: one that trickles on purpose."""

CRAWL_SECONDS = 5.0
_REGROUP_SECONDS = 0.1
_BARREN_SECONDS = 0.1  # nobody is looked at again so soon after all were found to get on


class State(IntEnum):
    """What the holder of a place does, in the order in which they give way."""

    WAITING = 0
    """It has not begun: no whole request, no acknowledgment, or nothing more to ask for."""
    STALLED = 1
    """It has begun and takes nothing any more, or next to nothing."""
    MOVING = 2


@dataclass(frozen=True)
class Group:
    """All that count as one. `known` ones are in the inventory; a `shared` one holds those that nobody can tell."""

    name: str
    known: bool = False
    shared: bool = False


NOBODY = Group("", shared=True)
"""The group of all addresses without a MAC."""

Who = Callable[[str], Group]
"""Who is behind an address, by what is known now; never waits."""


def by_address(address: str) -> Group:
    """Every address by itself, and all of them known: for listeners whose peers the kernel itself names."""
    return Group(address, known=True)


@dataclass(frozen=True)
class Bounds:
    """Places in all, and those of one group."""

    total: int
    per_group: int

    @property
    def strangers(self) -> int:
        """Places of all groups that are not known: the other half is kept for hosts of the inventory."""
        return max(1, self.total // 2)

    def of(self, group: Group) -> int:
        """Places of one group."""
        return min(self.per_group, max(1, self.total // 8)) if group.shared else self.per_group


class Holder(Protocol):
    """Who holds a place. Holders are told apart by identity."""

    @property
    def address(self) -> str:
        """The peer's address."""

    def state(self, now: float) -> tuple[State, float]:
        """What it does, and for how many seconds it has made no progress."""

    def pace(self, now: float) -> float:
        """Bytes a second that it takes; only those that are MOVING are asked."""


H = TypeVar("H", bound=Holder)


class Places(Generic[H]):
    """The places of one listener."""

    def __init__(self, bounds: Bounds, who: Who = by_address) -> None:
        self.bounds = bounds
        self._who = who
        self._groups: dict[Group, dict[int, H]] = {}
        self._of: dict[int, Group] = {}
        self._strangers = self._shared = 0  # places of groups that are not known, groups that are shared
        self._regrouped = 0.0
        self._barren = {True: 0.0, False: 0.0}

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[H]:
        return (holder for members in self._groups.values() for holder in members.values())

    def admit(self, holder: H, now: float) -> tuple[bool, list[H]]:
        """Whether `holder` gets a place, and who has just lost one: the caller ends those."""
        lost = []
        if self._shared and now - self._regrouped >= _REGROUP_SECONDS:
            lost = self.refresh(now, shared=True)
        group = self._who(holder.address)
        if group.shared and len(self._groups.get(group, ())) >= self.bounds.of(group):
            lost += self.refresh(now, shared=True)
        fits, victim = self._make_room(group, now)
        if victim is not None:
            self.leave(victim)
            lost.append(victim)
        if fits:
            self._put(holder, group)
        return fits, lost

    def leave(self, holder: H) -> None:
        """A place is free again; harmless when `holder` has none."""
        group = self._of.pop(id(holder), None)
        if group is None:
            return
        members = self._groups[group]
        del members[id(holder)]
        if not members:
            del self._groups[group]
            self._shared -= group.shared
        self._strangers -= not group.known

    def refresh(self, now: float, *, shared: bool = False) -> list[H]:
        """Put everybody (or all that were nobody's) into the group that they belong to by now: MACs become known, and
        the inventory changes. Returns who has lost its place, because its group then had more than it may."""
        self._regrouped = now
        grown = set()
        for group in [one for one in self._groups if one.shared or not shared]:
            for holder in list(self._groups[group].values()):
                present = self._who(holder.address)
                if present != group:
                    self.leave(holder)
                    self._put(holder, present)
                    grown.add(present)
        return [victim for group in grown for victim in self._shed(group, now)]

    def _shed(self, group: Group, now: float) -> list[H]:
        lost: list[H] = []
        while len(members := self._groups[group]) > self.bounds.of(group):
            newest = next(reversed(members.values()))
            lost.append(_quiet(members.values(), now, 0.0) or newest)
            self.leave(lost[-1])
        return lost

    def _put(self, holder: H, group: Group) -> None:
        if group not in self._groups:
            self._groups[group] = {}
            self._shared += group.shared
        self._groups[group][id(holder)] = holder
        self._of[id(holder)] = group
        self._strangers += not group.known

    def _make_room(self, group: Group, now: float) -> tuple[bool, H | None]:
        bounds = self.bounds
        own = self._groups.get(group, {})
        if len(own) >= bounds.of(group):
            # One machine has its newest wish; among those that nobody can tell apart, none pushes out what is fresh.
            found = _quiet(own.values(), now, WAITING_SECONDS if group.shared else 0.0)
            return found is not None, found
        everywhere = len(self) >= bounds.total
        if not everywhere and (group.known or self._strangers < bounds.strangers):
            return True, None
        if now < self._barren[group.known]:
            return False, None
        found = self._somebody(group, len(own), now)
        if found is None:
            self._barren[group.known] = now + _BARREN_SECONDS
        return found is not None, found

    def _somebody(self, group: Group, own: int, now: float) -> H | None:
        """Who gives way to a newcomer of `group`, which has `own` places already; strangers before known hosts."""
        strangers = sorted((g for g in self._groups if not g.known), key=self._size, reverse=True)
        for one in strangers:
            if (found := _quiet(self._groups[one].values(), now, WAITING_SECONDS)) is not None:
                return found
        # Who cannot be told yet may be a known host; more than a few there are not.
        rest = [one for one in strangers if not one.shared]
        if rest and (group.known or group.shared or self._size(rest[0]) > own + 1):
            settled = [h for h in self._groups[rest[0]].values() if _is_settled(h, now)]
            if settled:
                return min(settled, key=lambda h: h.pace(now))
        for one in sorted((g for g in self._groups if g.known and group.known), key=self._size, reverse=True):
            if (found := _quiet(self._groups[one].values(), now, WAITING_SECONDS)) is not None:
                return found
        return None

    def _size(self, group: Group) -> int:
        return len(self._groups[group])


def _is_settled(holder: Holder, now: float) -> bool:
    state, seconds = holder.state(now)
    return state is not State.WAITING or seconds >= WAITING_SECONDS


def _quiet(holders: Iterable[H], now: float, grace: float) -> H | None:
    """Who of one group gives way because it does not get on: one that has not begun for `grace` seconds before one that
    has stalled, one of an address with many before one with few, and then the one that has been quiet for longest."""
    found: list[tuple[State, float, H]] = []
    for holder in holders:
        state, seconds = holder.state(now)
        if state is State.STALLED or (state is State.WAITING and seconds >= grace):
            found.append((state, seconds, holder))
    if not found:
        return None
    many = Counter(holder.address for _, _, holder in found)
    return min(found, key=lambda one: (one[0], -many[one[2].address], -one[1]))[2]


def is_stalled(quiet: float, taken: int, watched: float) -> bool:
    """Whether a peer counts as stalled: no progress for `quiet` seconds, or `taken` bytes only in `watched` seconds."""
    return quiet >= STALL_SECONDS or (watched >= CRAWL_SECONDS and taken < CRAWL * watched)
