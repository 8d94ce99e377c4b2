"""What an entry of the audit log may hold: none of it can be a secret's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIELD_NAMES = """
    time event host medium channel network interface address mac operator answer rule reason remedy override
    revision boot window minutes boots credential kind version image base label selector file sha256
    link uses added changed removed count since subject before accepted of bytes from to first last
"""
FIELDS = frozenset(_FIELD_NAMES.split())
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
