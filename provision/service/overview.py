"""What a person looks at: hosts a hundred at a time, each with a word for how it is, and what its seed will hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from provision import seed
from provision.api.status import HostStatus
from provision.host import Host
from provision.principal import Labels, Principal
from provision.service.core import Core
from provision.service.status import Reports

PAGE = 100
"""Hosts of one page."""
STUCK = timedelta(minutes=10)
"""After this long a boot that is not up has stopped somewhere. Slow firmware and a slow LAN take half of it."""


class Condition(StrEnum):
    """How a host is, in a word."""

    STUCK = "stuck"
    BOOTING = "booting"
    UP = "up"
    READY = "ready to boot"
    IDLE = "idle"


@dataclass(frozen=True)
class Line:
    """One host of a page: how it is, and where and why it is stuck ("" when it is not)."""

    name: str
    labels: Labels
    status: HostStatus
    condition: Condition
    why: str


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


class Overview:
    """Makes pages. What it costs hardly depends on how many hosts there are."""

    def __init__(self, core: Core, reports: Reports) -> None:
        self._core, self._reports = core, reports

    def hosts(
        self, principal: Principal, text: str = "", label: str = "", value: str = "", first: int = 0
    ) -> HostsPage:
        """A page of the hosts that the principal sees, whose name or MAC has `text` in it, and which have the `label`,
        with that `value` when it is not ""."""
        found = list(self._found(principal, text.strip().lower(), label, value))
        first = max(0, min(first, len(found) - 1))
        shown = list(islice(found, first, first + PAGE))
        statuses = self._reports.of_hosts(host.name for host in shown)
        lines = (self._line(host, status, principal) for host, status in zip(shown, statuses, strict=True))
        return HostsPage(tuple(lines), first, len(found))

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

    def _found(self, principal: Principal, text: str, label: str, value: str) -> Iterator[Host]:
        for host in self._core.visible(principal):
            if text and text not in host.name and not any(text in mac for mac in host.macs):
                continue
            if label and (label not in host.labels or (value and host.labels[label] != value)):
                continue
            yield host

    def _line(self, host: Host, status: HostStatus, principal: Principal) -> Line:
        condition = judge(status, self._core.clock())
        why = self._why(status, principal) if condition is Condition.STUCK else ""
        return Line(host.name, tuple(sorted(host.labels.items())), status, condition, why)

    def _why(self, status: HostStatus, principal: Principal) -> str:
        where = f"at its {status.stage}"
        for row in self._reports.explain(status.host, principal):
            if row.medium == status.medium and row.channel.endswith(f":{status.network}") and not row.allowed:
                return f"{where}: {row.reason}. {row.remedy}"
        return f"{where}: nothing more was asked for. Look at its console"


def judge(status: HostStatus, now: datetime) -> Condition:
    """How a host is, by how far it has come and when it began."""
    if status.stage == "up":
        return Condition.UP
    if status.stage != "nothing":
        began = datetime.fromisoformat(status.started) if status.started else now
        return Condition.STUCK if abs(now - began) >= STUCK else Condition.BOOTING
    return Condition.READY if status.window is not None and status.window.open else Condition.IDLE
