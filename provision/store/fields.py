"""What an entry of the audit log may hold: none of it can be a secret's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

Entry = TypedDict(
    "Entry",
    {
        # Of the log itself: the entry's number, the store's newest generation, and what the entry that begins a file
        # continues.
        "seq": int,
        "generation": int,
        "after": int,
        "previous": str,
        # Of the event.
        "time": str,
        "event": str,
        "host": str,
        "medium": str,
        "channel": str,
        "network": str,
        "interface": str,
        "address": str,
        "mac": str,
        "replaced": str,
        "operator": str,
        "answer": str,
        "rule": str,
        "reason": str,
        "remedy": str,
        "override": str,
        "revision": str,
        "boot": int | str,
        "window": int | str,
        "minutes": int,
        "days": int,
        "boots": int,
        "link": str,
        "token": str,
        "webhook": str,
        "role": str,
        "uses": int,
        "credential": str,
        "kind": str,
        "version": int,
        "versions": str,
        "image": str,
        "base": str,
        "label": str,
        "selector": str,
        "file": str,
        "sha256": str,
        "added": int,
        "changed": int,
        "removed": int,
        "count": int,
        "since": str,
        "subject": str,
        "before": int,
        "accepted": int,
        "of": int,
        "bytes": int,
        "from": int,
        "to": int,
        "first": int,
        "last": int,
    },
    total=False,
)
"""An entry as it was read, without its chain. `time` and `since` are UTC in ISO 8601; `from` and `to` are offsets into
a medium, and `bytes` counts what was sent of it."""

FIELDS = frozenset(Entry.__annotations__) - {"seq", "generation", "after", "previous"}
"""The fields that an event may have."""

_MAX_TEXT = 512


def checked(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event without time and without empty fields; raises ValueError for what has no place in a log."""
    if not event.keys() <= FIELDS:
        raise ValueError(f"the audit log has no field {min(event.keys() - FIELDS)!r}")
    fields: dict[str, Any] = {}
    for name, value in event.items():
        if value is None or name == "time":
            continue
        if type(value) is str and len(value) <= _MAX_TEXT:
            fields[name] = value
            continue
        if isinstance(value, str):
            # An enumeration's member counts as its text.
            value = str(value) if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "…"
        elif not isinstance(value, int):
            raise ValueError(f"the audit log takes text and numbers, not a {type(value).__name__} in {name!r}")
        fields[name] = value
    return fields
