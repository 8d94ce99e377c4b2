"""What a person looks at: hosts a hundred at a time, each with a word for how it is, and what its seed will hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from provision import seed
from provision.api.status import HostStatus
from provision.host import Host
from provision.principal import Labels, Principal
from provision.service.conditions import Conditions
from provision.service.core import Core
from provision.service.diagnosis import Stuck, explained
from provision.service.grouping import Condition, Groups, grouped
from provision.service.status import Reports

PAGE = 100
"""Hosts of one page."""


@dataclass(frozen=True)
class Line:
    """One host of a page: how it is, and where and why it is stuck (None when it is not)."""

    name: str
    labels: Labels
    status: HostStatus
    condition: Condition
    stuck: Stuck | None


@dataclass(frozen=True)
class HostsPage:
    """Hosts by their names, from number `first` (0-based) on, of `total` that were looked for."""

    lines: tuple[Line, ...]
    first: int
    total: int

    @property
    def next(self) -> int | None:
        """Where the next page begins; None on the last one."""
        following = self.first + PAGE
        return following if following < self.total else None

    @property
    def previous(self) -> int | None:
        """Where the page before begins; None on the first one."""
        return max(0, self.first - PAGE) if self.first else None


@dataclass(frozen=True)
class Wanted:
    """Which hosts are looked for: whose name or MAC has `text` in it, which have the `label`, with that `value` when it
    is not "" (which any label may have when `label` is ""), and which are in the condition, when there is one."""

    text: str = ""
    label: str = ""
    value: str = ""
    condition: Condition | None = None


ALL = Wanted()


class Overview:
    """Makes pages. What a page costs hardly depends on how many hosts there are, unless they are looked for or counted
    by their condition: for that each is judged, by a `Conditions` that bounds how often."""

    def __init__(self, core: Core, reports: Reports) -> None:
        self._core, self._reports = core, reports
        self._conditions = Conditions(lambda: dict(self._judged(list(core.hosts))))

    def hosts(self, principal: Principal, wanted: Wanted = ALL, first: int = 0) -> HostsPage:
        """A page of the hosts that the principal sees and looks for."""
        found = self._found(principal, wanted)
        first = max(0, min(first, len(found) - 1))
        shown = list(islice(found, first, first + PAGE))
        statuses = self._reports.of_hosts(host.name for host in shown)
        lines = (self._line(host, status, principal) for host, status in zip(shown, statuses, strict=True))
        return HostsPage(tuple(lines), first, len(found))

    def names(self, principal: Principal, wanted: Wanted) -> tuple[str, ...]:
        """The names of all hosts that the principal sees and looks for."""
        return tuple(host.name for host in self._found(principal, wanted))

    def groups(self, principal: Principal, label: str) -> Groups:
        """Every host that the principal sees, counted by condition and by the value of a label; "" takes the label that
        most hosts have."""
        hosts = self._core.visible(principal)
        return grouped([(host.labels, condition) for host, condition in self._known(hosts)], label)

    def host(self, name: str, principal: Principal) -> Line:
        """One host; raises NotFound."""
        host = self._core.seen(name, principal).host
        (status,) = self._reports.of_hosts([name])
        return self._line(host, status, principal)

    def contents(self, name: str, principal: Principal) -> list[str]:
        """The paths of the host's files that are no credentials; raises NotFound."""
        return seed.contents(self._core.seen(name, principal).host, self._core.site)

    def networks(self) -> list[tuple[str, str, str]]:
        """Each network's name, role and prefix ("" for one with IPv6 only)."""
        found = self._core.site.networks.items()
        return [(name, str(network.role), str(network.prefix or "")) for name, network in found]

    def _found(self, principal: Principal, wanted: Wanted) -> list[Host]:
        found = list(self._core.visible(principal))
        if wanted.text or wanted.label or wanted.value:
            found = [host for host in found if _fits(host, wanted)]
        if wanted.condition is None:
            return found
        return [host for host, condition in self._known(found) if condition is wanted.condition]

    def _known(self, hosts: Iterable[Host]) -> Iterator[tuple[Host, Condition]]:
        """Hosts with their conditions, which may be some seconds old."""
        known = self._conditions.all()
        for host in hosts:
            yield host, known.get(host.name, Condition.IDLE)

    def _judged(self, names: Sequence[str]) -> Iterator[tuple[str, Condition]]:
        now, patience = self._core.clock(), self._patience
        return ((status.host, judge(status, now, patience)) for status in self._reports.of_hosts(names))

    @property
    def _patience(self) -> timedelta:
        return timedelta(minutes=self._core.settings.stuck_minutes)

    def _line(self, host: Host, status: HostStatus, principal: Principal) -> Line:
        condition = judge(status, self._core.clock(), self._patience)
        stuck = None
        if condition is Condition.STUCK:
            stuck = explained(status, self._reports.explain(host.name, principal))
        return Line(host.name, tuple(sorted(host.labels.items())), status, condition, stuck)


def _fits(host: Host, wanted: Wanted) -> bool:
    text, label, value = wanted.text.strip().lower(), wanted.label, wanted.value
    if text and text not in host.name and not any(text in mac for mac in host.macs):
        return False
    if not label:
        return not value or value in host.labels.values()
    return label in host.labels and (not value or host.labels[label] == value)


def judge(status: HostStatus, now: datetime, patience: timedelta) -> Condition:
    """How a host is, by how far it has come. A boot of which nothing was seen for as long as the `patience` has stopped
    somewhere."""
    if status.stage == "up":
        return Condition.UP
    if status.stage != "nothing":
        seen = datetime.fromisoformat(status.seen) if status.seen else now
        return Condition.STUCK if abs(now - seen) >= patience else Condition.BOOTING
    return Condition.READY if status.window is not None and status.window.open else Condition.IDLE
