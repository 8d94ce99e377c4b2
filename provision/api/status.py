"""How far boots have come, what policy would say, and what the service itself is doing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from provision.api.hosts import HostSlots, StoredIdentity, Window
from provision.api.wire import Answer, Count, Line, Time, examples
from provision.boot import Medium
from provision.model import Name

Percent = Annotated[int, Field(ge=0, le=100)]


class Alert(Answer):
    """Something about a host that its operator should look at."""

    event: Line
    text: Line
    count: Count
    last: Time


class HostStatus(Answer):
    """How far a host has come; `parts` in percent, `seen` is when something was last seen of that boot, and `heard`
    when the host last said that it is up."""

    host: Name
    stage: Line
    parts: dict[Line, Percent]
    medium: Medium | None
    mac: Line | None
    network: Line | None
    started: Time | None
    seen: Time | None
    up: Time | None
    window: Window | None
    heard: Time | None
    alerts: tuple[Alert, ...]
    stored: StoredIdentity | None = None
    slots: HostSlots | None = None


class UnknownMachine(Answer):
    """A machine that asked and is in no inventory."""

    mac: Line
    uuid: Line | None
    network: Line | None
    last: Time
    count: Count


_HOST_STATUS: dict[str, JsonValue] = {
    "host": "node1",
    "stage": "kernel",
    "parts": {"configuration": 100, "kernel": 40},
    "medium": "pxe",
    "mac": "52:54:00:00:00:01",
    "network": "mgmt",
    "started": "2026-03-01T12:00:00+00:00",
    "seen": "2026-03-01T12:00:20+00:00",
    "up": None,
    "window": {"open": True, "expires": "2026-03-01T13:00:00+00:00", "boots": 1, "used": 0},
    "heard": None,
    "alerts": [],
    "stored": {
        "revision": "c" * 64,
        "credentials": {"token": 2},
        "reported": "2026-02-01T12:00:00+00:00",
        "current": True,
        "wiping": False,
    },
}


class Status(Answer):
    """Every host, the unknown machines, what will stop everything soon, and why nothing is given away."""

    model_config = examples({"hosts": [_HOST_STATUS], "unknown": [], "warnings": [], "problems": []})

    hosts: tuple[HostStatus, ...]
    unknown: tuple[UnknownMachine, ...]
    warnings: tuple[Line, ...]
    problems: tuple[Line, ...]


class Explanation(Answer):
    """What policy says of one medium on one channel: allowed, or the rule, the reason and the way out. `by` is "link"
    for what only a link may get there. `plain`: what is given is the image alone, and the host has its identity on its
    own disk. `signed`: it is the signed image, the same for all hosts, and has no secret of this one."""

    model_config = examples(
        {
            "medium": "pxe",
            "channel": "management:mgmt",
            "allowed": False,
            "rule": "window-closed",
            "reason": "node1 has no open window",
            "remedy": "Open one: 'provision window node1'",
        }
    )

    medium: Medium
    channel: Line
    allowed: bool
    by: Line | None = None
    rule: Line | None = None
    reason: Line | None = None
    remedy: Line | None = None
    caution: Line | None = None
    plain: bool = False
    signed: bool = False


class Ready(Answer):
    """The server is ready; one that is not answers with an error that says why."""

    model_config = examples({"ready": True})

    ready: bool


class Health(Answer):
    """What this process is serving: each listener's network (or "[api]") and state, and what keeps or will keep it."""

    model_config = examples({"hosts": 3, "listeners": {"mgmt": "serving"}, "problems": [], "warnings": []})

    hosts: Count
    listeners: dict[Line, Line]
    problems: tuple[Line, ...]
    warnings: tuple[Line, ...] = ()
