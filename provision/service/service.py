"""The whole service over one state directory, as the web, TFTP and the command line use it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from threading import Lock
from typing import Any, Self

from provision import clock as clocks
from provision import netcheck
from provision.clock import Clock
from provision.errors import Invalid
from provision.media.plan import Plan
from provision.media.reader import Reader
from provision.service.core import Core
from provision.service.credentials import Credentials
from provision.service.images import Images
from provision.service.inventory import Inventories
from provision.service.media_builder import Maker
from provision.service.netboot import Netboot
from provision.service.operations import Operations
from provision.service.progress import Tracker
from provision.settings import Settings
from provision.store.chain import Head

_RESOLVER = re.compile(
    r"(?:\[(?P<six>[^\]]*:[^\]]*)\]|(?P<four>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?|(?P<bare>[^\[\]]*)"
)


class Digests:
    """Whole-file SHA-256 sums of media, computed on demand and remembered by entity tag."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def of(self, plan: Plan) -> str:
        """Hex SHA-256 of the whole medium; reads all of it the first time."""
        with self._lock:
            known = self._known.get(plan.etag)
        if known is None:
            with Reader(plan) as reader:
                known = reader.digest()
            with self._lock:
                self._known[plan.etag] = known
                while len(self._known) > 4096:
                    self._known.popitem(last=False)
        return known


class Service:
    """Everything over one open `Core`."""

    def __init__(self, core: Core) -> None:
        self.core = core
        tracker, maker = Tracker(), Maker(core)
        self.inventories = Inventories(core)
        self.credentials = Credentials(core)
        self.images = Images(core)
        self.operations = Operations(core, maker, tracker)
        self.netboot = Netboot(core, maker, tracker)
        self.digests = Digests()
        self.listeners: Callable[[], Mapping[str, str]] = dict

    @classmethod
    def open(cls, settings: Settings, clock: Clock = clocks.now, *, brief: bool = False) -> Self:
        """Open the state directory; raises Conflict while another process has it, Unavailable when it is broken.

        `brief` is for a process that gives one answer and ends.
        """
        return cls(Core.open(settings, clock, brief=brief))

    def close(self) -> None:
        """Let go of the state directory."""
        self.core.close()

    def check(self, server: str | None) -> list[dict[str, Any]]:
        """DNS against the inventory, and whether the disk will last.

        `server` is the resolver to ask: ADDRESS, ADDRESS:PORT or [IPV6]:PORT.
        """
        resolvers = [_resolver(server)] if server is not None else None
        findings = netcheck.check(self.inventories.current(), resolvers)
        found = [(f.subject, f.fact, f.remedy) for f in findings]
        found += [(w.subject, w.fact, w.remedy) for w in self.core.warnings()]
        return [{"subject": subject, "fact": fact, "remedy": remedy} for subject, fact, remedy in found]

    def audit_entries(self, host: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest entries of the audit log, oldest first."""
        return self.core.audit.entries(host, limit)

    def audit_verify(self, heads: Sequence[str] = ()) -> dict[str, Any]:
        """The state of the audit log's chain; `heads` ("SEQ:CHAIN", as the journal has them) must be in it."""
        result = self.core.audit.verify([_head(text) for text in heads])
        return {
            "ok": result.ok,
            "entries": result.entries,
            "starts": result.starts,
            "problems": list(result.problems),
        }

    def health(self) -> dict[str, Any]:
        """What is served: each listener's network and state."""
        problems = self.core.footing.problems()
        return {"hosts": len(self.core.hosts), "listeners": dict(self.listeners()), "problems": problems}


def _head(text: str) -> Head:
    found = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", text)
    if found is None:
        raise Invalid("head", "is not one of the audit log", "write SEQ:CHAIN, as the journal has them")
    return Head(int(found[1]), found[2])


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
