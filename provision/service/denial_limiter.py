"""What an outsider can cause costs a bounded number of audit entries: a minute, a day, and on its own network.

A machine that makes addresses up must not be able to fill the disk, nor to hide what happens on another network.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from provision.boot import Requester
from provision.host import Host
from provision.store.bounds import Bound

MACHINES_A_MINUTE = 256
"""Different machines a minute, on each network, whose denials are recorded one by one."""

STRANGERS_A_DAY = 20_000
"""Entries a day, on each network, for what is denied to machines that are not the host they ask for."""

HOST_A_DAY = 2_000
"""Entries a day, on each network, for what is denied to a host; as many for its configurations, and as many for what is
released to it: nobody uses up what secrets leave behind by asking for something else."""

_KEPT = frozenset(("event", "medium", "channel", "answer", "rule"))
_KEPT_OF_HOST = _KEPT | {"host", "mac", "revision", "link"}


class MinuteLimiter:
    """Tells the first MACHINES_A_MINUTE different askers of each minute from the rest."""

    def __init__(self) -> None:
        self._since = datetime.min.replace(tzinfo=UTC)
        self._seen: set[tuple[str, ...]] = set()

    def admit(self, asker: tuple[str, ...], now: datetime) -> bool:
        """Whether `asker` (address, MAC, and the host it asks for) gets an entry of its own."""
        if not timedelta() <= now - self._since < timedelta(minutes=1):
            self._since, self._seen = now, set()
        if len(self._seen) < MACHINES_A_MINUTE:
            self._seen.add(asker)
        return asker in self._seen


class DenialLimiter:
    """A `MinuteLimiter` for each network, and on each of them one more for machines that the kernel knows by a host's
    MAC; and what decisions are counted under in the audit log."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, bool], MinuteLimiter] = {}
        self._bounds: dict[tuple[str, str, str], Bound] = {}

    def admit(self, channel: str, known: bool, asker: tuple[str, ...], now: datetime) -> bool:
        """`MinuteLimiter.admit` among those on that network who are `known`, or are not."""
        return self._minutes.setdefault((channel, known), MinuteLimiter()).admit(asker, now)

    def bound(self, channel: str, host: str, kind: str) -> Bound:
        """The bound of one kind of answers to a host that asks itself ("": to all machines that do not)."""
        place = channel, host, kind
        found = self._bounds.get(place)
        if found is None:
            # Which host a stranger asks for is made up, too.
            own = Bound(f"what {channel} {kind} {host}", HOST_A_DAY, _KEPT_OF_HOST)
            found = own if host else Bound(f"what {channel} denied strangers", STRANGERS_A_DAY, _KEPT)
            self._bounds[place] = found
        return found

    def forget(self) -> None:
        """The hosts have changed: keep nothing of those that are gone."""
        self._bounds.clear()


def is_itself(host: Host | None, requester: Requester) -> bool:
    """Whether the kernel knows the machine that asks by a MAC of the host that it asks for."""
    return host is not None and requester.mac in host.macs


def guessing(channel: str) -> Bound:
    """The bound of guessed links, and of those that are over."""
    return Bound(f"refused links on {channel}", STRANGERS_A_DAY, _KEPT)


def reporting(network: str | None) -> Bound:
    """The bound of what is not a decision: refused reports that a host is up, and refused charges."""
    return Bound(f"refused reports on {network}", STRANGERS_A_DAY, _KEPT)


def enrolling(network: str) -> Bound:
    """The bound of refused enrolments."""
    return Bound(f"refused enrolments on {network}", STRANGERS_A_DAY, _KEPT)


def opening(network: str, host: str) -> Bound:
    """The bound of what a host says of its envelopes."""
    return Bound(f"envelopes of {host} on {network}", HOST_A_DAY, frozenset(("event", "channel", "host", "mac")))


def updating(host: str) -> Bound:
    """The bound of updates that a host asks for."""
    return Bound(f"updates of {host}", HOST_A_DAY, frozenset(("event", "channel", "host")))


def beginning(network: str, host: str) -> Bound:
    """The bound of boots that a host begins."""
    return Bound(f"boots of {host} on {network}", HOST_A_DAY, frozenset(("event", "medium", "network", "host", "mac")))
