"""What a host says of the two slots on its own disk, and what the server remembers of that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from provision.errors import Invalid

_ID = "[0-9a-f]{64}"
_REASON = r"[A-Za-z0-9][A-Za-z0-9 ,;:.()_/+=\'-]{0,250}"
_REPORT = re.compile(
    rf"(?P<running>[ab]) (?P<default>[ab]) (?P<a>{_ID}|-) (?P<b>{_ID}|-) (?:(?P<idle>idle)"
    rf"|(?P<doing>fetching|waiting|rebooting|trying) (?P<version>{_ID})"
    rf"|(?P<refused>refused) (?P<refusal>{_REASON})"
    rf"|(?P<failed>failed) (?P<broken>{_ID}) (?P<attempt>[1-9][0-9]{{0,8}}) (?P<reason>{_REASON}))"
)


class Doing(StrEnum):
    """What a host does about an update: nothing; it fetches one; has it in the other slot, and waits until it may
    reboot; reboots; runs it unproven; has refused one; or has run one that failed."""

    IDLE = "idle"
    FETCHING = "fetching"
    WAITING = "waiting"
    REBOOTING = "rebooting"
    TRYING = "trying"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class SlotReport:
    """The slot (`a` or `b`) that the host is `running`, the one that is its `default`, and the versions in them: ids of
    base images, "" for none. What it is `doing`, with which `version`, in which `attempt`, and for what `reason`."""

    running: str
    default: str
    a: str
    b: str
    doing: Doing = Doing.IDLE
    version: str = ""
    attempt: int = 0
    reason: str = ""

    @property
    def running_version(self) -> str:
        """The version that the host is running; "" when its slot does not say."""
        return self.a if self.running == "a" else self.b

    @property
    def default_version(self) -> str:
        """The version that the host falls back to; "" when its slot does not say."""
        return self.a if self.default == "a" else self.b

    @property
    def coming(self) -> str:
        """The version that the host runs after its next boot."""
        waits = self.doing in (Doing.WAITING, Doing.REBOOTING)
        return self.version if waits else self.running_version

    @property
    def is_proven(self) -> bool:
        """Whether the host stays at what it is running."""
        return self.running == self.default and self.doing is not Doing.TRYING


def parse(text: str) -> SlotReport | None:
    """What `text` says, the form that docs/media-format.md ("Alive") gives; None for "". Raises Invalid."""
    if not text:
        return None
    found = _REPORT.fullmatch(text)
    if found is None:
        raise _invalid()
    part = found.groupdict(default="")
    return SlotReport(
        part["running"],
        part["default"],
        part["a"].strip("-"),
        part["b"].strip("-"),
        Doing(part["idle"] or part["doing"] or part["refused"] or part["failed"]),
        part["version"] or part["broken"],
        int(part["attempt"] or 0),
        part["refusal"] or part["reason"],
    )


@dataclass(frozen=True)
class Failure:
    """A version that the host ran and did not keep: in which `attempt`, for what `reason`, and when it said so."""

    attempt: int
    reason: str
    at: datetime


@dataclass(frozen=True)
class HostSlots:
    """What a host last said of its slots, as it said it, and when; which versions have failed on it, by their ids; and
    the `attempt` that is allowed now: a version that failed in it is not tried again. Raises Invalid for what no host
    has said."""

    said: str
    reported: datetime
    attempt: int = 1
    failed: Mapping[str, Failure] = field(default_factory=dict)
    report: SlotReport = field(init=False, compare=False)
    """What it said, parsed."""

    def __post_init__(self) -> None:
        found = parse(self.said)
        if found is None:
            raise _invalid()
        object.__setattr__(self, "report", found)


def _invalid() -> Invalid:
    return Invalid("alive", "the body is not a valid message", "see docs/media-format.md")
