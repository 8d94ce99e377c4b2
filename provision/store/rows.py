"""Windows and boots as their rows have them: the driver's own values in the schema's order, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from provision.boot import Boot, Medium, Window
from provision.store import schema
from provision.store.ledger import Row
from provision.store.schema import as_text, as_time

NAMES = {table.name: table.c.keys() for table in (schema.boots, schema.windows)}


def find(rows: Sequence[Row], number: int) -> Row | None:
    return next((row for row in rows if row[0] == number), None)


def raw(value: Any) -> Any:
    """A value as the driver gives it back."""
    if isinstance(value, datetime):
        return as_text(value)
    return int(value) if isinstance(value, bool) else value


def window(row: Row) -> Window:
    found = dict(zip(NAMES["windows"], row, strict=True))
    opened, expires = as_time(found["opened"]), as_time(found["expires"])
    assert expires is not None  # noqa: S101  (not null)
    return Window(found["id"], expires, found["boots"], found["used"], bool(found["closed"]), opened)


def boot(row: Row, host: str) -> Boot:
    found = dict(zip(NAMES["boots"], row, strict=True))
    started = as_time(found["started"])
    assert started is not None  # noqa: S101  (not null)
    return Boot(
        id=found["id"],
        host=host,
        mac=found["mac"],
        medium=Medium(found["medium"]),
        network=found["network"],
        started=started,
        window=found["window_id"],
        charged=as_time(found["charged"]),
        seed_revision=found["seed_revision"],
        up=as_time(found["up"]),
    )
