"""What entries of the audit log are to those who are told of them elsewhere, one by one."""

from __future__ import annotations

import json
import re

from provision.denial import HOST_IS_UP
from provision.settings import EVENTS
from provision.store.fields import Entry

_LEFT_OUT = ("event", "generation")
_DENIALS = {"unknown-host": "unknown-machine", HOST_IS_UP: "fetched-while-up"}
"""Denials that are events of their own, by their rules."""
_PLAIN = re.compile(r"[\w.:/+@-]+", re.ASCII)


def kind_of(entry: Entry) -> str | None:
    """What an entry is called as an event, one of EVENTS; None for what is of the log itself, or of no interest."""
    name = entry.get("event", "")
    if name == "decision" and entry.get("answer") == "denied":
        name = _DENIALS.get(entry.get("rule", ""), "denied")
    elif name == "decision":
        name = "released"
    return name if name in EVENTS else None


def body_of(kind: str, entry: Entry) -> bytes:
    """The event as JSON, in the form of Standard Webhooks: `type`, `timestamp` and `data`, the entry's fields. No entry
    can hold a secret, so neither can this."""
    data = {name: value for name, value in entry.items() if name not in _LEFT_OUT and name != "time"}
    return json.dumps({"type": kind, "timestamp": entry["time"], "data": data}).encode()


def line_of(kind: str, entry: Entry) -> str:
    """The event as one line of a log: its name, then FIELD=VALUE; a value that is not a plain word is a JSON string, so
    that nothing in it begins another line or field, or acts on a terminal."""
    fields = {name: value for name, value in entry.items() if name not in _LEFT_OUT and name != "time"}
    words = (
        f"{name}={value if _PLAIN.fullmatch(str(value)) else json.dumps(str(value))}" for name, value in fields.items()
    )
    return " ".join((kind, *words))
