"""Windows, boots and links as rows: the driver's own values in the schema's order, and what they stand for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Table, bindparam, delete, insert, select, update

from provision.boot import Boot, Link, LinkUse, Medium, Window
from provision.store import schema
from provision.store.database import Transaction
from provision.store.dialect import Statement
from provision.store.ledger import Row
from provision.store.schema import as_text, as_time

HISTORY = 32
"""Boots from the network kept per host, medium and MAC (so that no NIC's boots push out another's), and windows kept
per host. Copies that came up are all kept."""

ID_DIGITS = 12
"""Hex digits of the keyed hash of a link's secret by which people name it: they tell nothing of the secret."""

_TABLES = (schema.boots, schema.windows, schema.links)
_NAMES = {table.name: table.c.keys() for table in _TABLES}


def _of_host(table: Table) -> Statement:
    return Statement(select(table).where(table.c.host_id == bindparam("host")).order_by(table.c.id.desc()))


_OF_HOST = {table.name: _of_host(table) for table in _TABLES}


def of_host(tx: Transaction, table: Table, host_id: str) -> list[Row]:
    """A host's windows, boots or links, the newest first; raises Unavailable when they are not as written last."""
    return tx.owned(_OF_HOST[table.name], table, host_id)


def all_but_newest(table: Table, *of: str) -> Statement:
    """Deletes what is older than the newest HISTORY of the rows with the same values of these columns, and gives it."""
    kept = table.alias()
    newest = select(kept.c.id).where(*(kept.c[name] == bindparam(name) for name in of)).order_by(kept.c.id.desc())
    oldest = newest.offset(HISTORY - 1).limit(1).scalar_subquery()
    old = delete(table).where(*(table.c[name] == bindparam(name) for name in of), table.c.id < oldest)
    return Statement(old.returning(*table.c))


def add(tx: Transaction, table: Table, values: dict[str, Any]) -> Row:
    """Write a new row, and return it."""
    key = tx.connection.execute(insert(table), values).inserted_primary_key
    return note(tx, table, values | {"id": int(key[0]) if key else 0})


def note(tx: Transaction, table: Table, values: dict[str, Any]) -> Row:
    """The row that was just written with these values."""
    row = tuple(raw(values.get(name)) for name in _NAMES[table.name])
    if table is schema.boots:
        tx.begin_boot(row[0])
    tx.posting.add(table, row)
    return row


@cache
def _change(table: Table, columns: tuple[str, ...]) -> Statement:
    """Changes these columns of one row: every host's boot waits for two of them."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    return Statement(update(table).where(table.c.id == bindparam("number")).values(values))


def put(tx: Transaction, table: Table, row: Row, values: dict[str, Any]) -> Row:
    """Change columns of a row that was read as `row`, and return it as it is now."""
    new = {f"new_{name}": value for name, value in values.items()}
    _change(table, tuple(values)).run(tx.connection, number=row[0], **new)
    old = dict(zip(_NAMES[table.name], row, strict=True))
    changed = tuple(raw(values[name]) if name in values else old[name] for name in old)
    tx.posting.remove(table, row)
    tx.posting.add(table, changed)
    return changed


def forget(tx: Transaction, table: Table, gone: Sequence[Row]) -> None:
    """These rows were just deleted."""
    for row in gone:
        tx.posting.remove(table, row)


def find(rows: Sequence[Row], number: int) -> Row | None:
    """The row with this number."""
    return next((row for row in rows if row[0] == number), None)


def raw(value: Any) -> Any:
    """A value as the driver gives it back."""
    if isinstance(value, datetime):
        return as_text(value)
    return int(value) if isinstance(value, bool) else value


def window(row: Row) -> Window:
    """What a row stands for."""
    found = dict(zip(_NAMES["windows"], row, strict=True))
    opened, expires = as_time(found["opened"]), as_time(found["expires"])
    assert expires is not None  # noqa: S101  (not null)
    return Window(found["id"], expires, found["boots"], found["used"], bool(found["closed"]), opened)


def boot(row: Row, host: str) -> Boot:
    """What a row stands for, which is of `host`."""
    found = dict(zip(_NAMES["boots"], row, strict=True))
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


def link(row: Row, host: str) -> Link:
    """What a row stands for, which is of `host`."""
    found = dict(zip(_NAMES["links"], row, strict=True))
    made, expires = as_time(found["made"]), as_time(found["expires"])
    assert made is not None and expires is not None  # noqa: S101  (not null)
    return Link(
        id=found["digest"][:ID_DIGITS],
        number=found["id"],
        host=host,
        medium=Medium(found["medium"]),
        identity=found["identity"],
        seed_revision=found["seed_revision"],
        copy=found["copy"],
        made=made,
        expires=expires,
        uses=found["uses"],
        actor=found["actor"],
        address=found["address"],
        taken=tuple(
            LinkUse(peer, datetime.fromisoformat(began), datetime.fromisoformat(seen))
            for peer, began, seen in json.loads(found["taken"])
        ),
        revoked=bool(found["revoked"]),
    )


def taken(uses: Sequence[LinkUse]) -> str:
    """The uses of a link as their column has them."""
    return json.dumps([[use.peer, as_text(use.began), as_text(use.seen)] for use in uses], separators=(",", ":"))
