"""What entries of the audit log are to those who are told of them elsewhere, one by one."""

from __future__ import annotations

import json

from provision.settings import EVENTS
from provision.store.fields import Entry

_LEFT_OUT = ("event", "generation")


def kind_of(entry: Entry) -> str | None:
    """What an entry is called as an event, one of EVENTS; None for what is of the log itself, or of no interest."""
    name = entry.get("event", "")
    if name == "decision" and entry.get("answer") == "denied":
        name = "unknown-machine" if entry.get("rule") == "unknown-host" else "denied"
    elif name == "decision":
        name = "released"
    return name if name in EVENTS else None


def body_of(kind: str, entry: Entry) -> bytes:
    """The event as JSON, in the form of Standard Webhooks: `type`, `timestamp` and `data`, the entry's fields. No entry
    can hold a secret, so neither can this."""
    data = {name: value for name, value in entry.items() if name not in _LEFT_OUT and name != "time"}
    return json.dumps({"type": kind, "timestamp": entry["time"], "data": data}).encode()
