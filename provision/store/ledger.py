"""What the database must hold: a keyed sum over every row that is believed, in one record that only the key can write.

Each row has a value, HMAC-SHA256 (RFC 2104) of its table and all its columns, as a number; the sum of all values modulo
2^256 and a generation stand in the record under an HMAC of their own. Without the key, nobody can say what a row's
value is, so no row can be changed, exchanged, left out, doubled or brought back without the sum being another. A change
costs the values of the rows that it touches, whatever the size of the database.

What the record cannot show is that the whole database, record and all, is an older one: its generation tells that, when
somebody else (the audit log) knows a newer one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Integer, LargeBinary, Table, select

from provision.secret import Secret
from provision.store import schema
from provision.store.dialect import Statement

_MODULUS = 1 << 256
# Whose row it is, by the column that says so; a table that is not here has one owner.
_OWNERS = {"hosts": "id", "bases": "name", "tokens": "name", "image_versions": "base_id", "site_keys": "id"}

TABLES = (
    schema.site,
    schema.hosts,
    schema.macs,
    schema.credentials,
    schema.earlier_credentials,
    schema.credential_versions,
    schema.compromises,
    schema.exposures,
    schema.rollouts,
    schema.rollout_hosts,
    schema.identities,
    schema.slots,
    schema.windows,
    schema.boots,
    schema.links,
    schema.bases,
    schema.tokens,
    schema.bmcs,
    schema.bmc_boots,
    schema.tpms,
    schema.tpm_loaders,
    schema.tpm_starts,
    schema.tpm_openings,
    schema.tpm_windows,
    schema.tpm_imports,
    schema.envelopes,
    schema.image_versions,
    schema.site_keys,
)
"""The tables whose rows are believed. Unknown MACs are believed by nobody, nor is when a token was used, or what was
said of what ends."""


def _kind(column: Column[Any]) -> type:
    """What the driver gives for a column."""
    if isinstance(column.type, Integer | Boolean):
        return int
    return bytes if isinstance(column.type, LargeBinary) else str


OF_HOSTS = tuple(table.name for table in TABLES if "host_id" in table.c)
_ROWS = {table.name: Statement(select(*table.c)) for table in TABLES}
_OWNER_AT = {
    table.name: table.c.keys().index(_OWNERS.get(table.name, "host_id"))
    for table in TABLES
    if table.name in _OWNERS or "host_id" in table.c
}
_KINDS: dict[str, list[type]] = {table.name: [_kind(column) for column in table.c] for table in TABLES}

Row = Sequence[Any]  # every column in the schema's order, as the driver gives it


class Standing(StrEnum):
    """How a database was found: as its record says, with no record, or with another one."""

    SOUND = "sound"
    MISSING = "missing"
    ALTERED = "altered"


@dataclass(frozen=True)
class Record:
    """What the database says of itself: how many durable changes it has seen, and the highest number of a boot."""

    generation: int = 0
    last_boot: int = 0


class Ledger:
    """The sums of all rows by table and owner (a host's id, the name of a base image or token, a site key's number), in
    memory; it has one writer."""

    def __init__(self, key: Secret) -> None:
        self._key = key.reveal()
        self._sums: dict[str, dict[str, int]] = {table.name: {} for table in TABLES}
        self.total = 0

    def value(self, table: str, row: Row) -> int:
        """A row's value."""
        return int.from_bytes(hmac.digest(self._key, b"row" + _encode((table, *row)), hashlib.sha256))

    def sum(self, table: str, owner: str) -> int:
        """The sum of an owner's rows."""
        return self._sums[table].get(owner, 0)

    def read(self, connection: Connection) -> None:
        """Take every row as it is found."""
        for name in self._sums:
            for row in _ROWS[name].run(connection):
                self._add(name, owner(name, row), self.value(name, row))

    @staticmethod
    def is_readable(connection: Connection) -> bool:
        """Whether every column has a value of its kind: SQLite takes any."""
        rows = ((_KINDS[name], row) for name in _KINDS for row in _ROWS[name].run(connection))
        return all(
            value is None or isinstance(value, kind)
            for kinds, row in rows
            for kind, value in zip(kinds, row, strict=True)
        )

    def commit(self, posting: Posting) -> None:
        """Take over what was written."""
        for (table, who), difference in posting.differences.items():
            self._add(table, who, difference)

    def _add(self, table: str, who: str, difference: int) -> None:
        sums = self._sums[table]
        sums[who] = (sums.get(who, 0) + difference) % _MODULUS
        self.total = (self.total + difference) % _MODULUS
        if not sums[who]:
            del sums[who]

    def record(self, record: Record, total: int) -> str:
        """The record as it is stored, for rows that have this sum."""
        text = f"{record.generation} {record.last_boot}"
        body = b"record" + _encode((record.generation, record.last_boot, total.to_bytes(32)))
        return f"{text} {hmac.digest(self._key, body, hashlib.sha256).hex()}"

    def standing(self, stored: str | None) -> tuple[Standing, Record]:
        """How the rows stand to the record that is stored with them; a record that cannot be believed says nothing."""
        if stored is None:
            return Standing.MISSING, Record()
        parts = stored.split(" ")
        if len(parts) == 3 and all(part.isdecimal() and part.isascii() and len(part) < 19 for part in parts[:2]):
            record = Record(int(parts[0]), int(parts[1]))
            if hmac.compare_digest(self.record(record, self.total).encode(), stored.encode()):
                return Standing.SOUND, record
        return Standing.ALTERED, Record()

    @property
    def is_empty(self) -> bool:
        """Whether there is no row at all."""
        return not any(self._sums.values())


class Posting:
    """What one transaction does to the sums."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.last_boot = 0
        self.differences: dict[tuple[str, str], int] = {}

    def add(self, table: Table, row: Row) -> None:
        """A row was written."""
        self._put(table.name, owner(table.name, row), self._ledger.value(table.name, row))

    def remove(self, table: Table, row: Row) -> None:
        """A row that was as `row` is gone."""
        self._put(table.name, owner(table.name, row), -self._ledger.value(table.name, row))

    def drop(self, table: Table | str, who: str) -> None:
        """All rows that an owner had before this transaction are gone."""
        name = table if isinstance(table, str) else table.name
        if known := self._ledger.sum(name, who):
            self._put(name, who, -known)

    def owns(self, table: Table, who: str, rows: Iterable[Row]) -> bool:
        """Whether these are all rows of that owner, as they were written last, in this transaction or before."""
        expected = self._ledger.sum(table.name, who) + self.differences.get((table.name, who), 0)
        return sum(self._ledger.value(table.name, row) for row in rows) % _MODULUS == expected % _MODULUS

    @property
    def total(self) -> int:
        """The sum of all rows when this is committed."""
        return (self._ledger.total + sum(self.differences.values())) % _MODULUS

    def _put(self, table: str, who: str, difference: int) -> None:
        place = table, who
        self.differences[place] = (self.differences.get(place, 0) + difference) % _MODULUS


def owner(table: str, row: Row) -> str:
    """Whose row it is; "" in a table that has one owner."""
    at = _OWNER_AT.get(table)
    return "" if at is None else str(row[at])


def _encode(values: Iterable[Any]) -> bytes:
    """Values so that no two sequences read the same: each with its kind and its length in bytes."""
    return b"".join([b"%b%d:%b" % (kind, len(data), data) for kind, data in map(_plain, values)])


def _plain(value: Any) -> tuple[bytes, bytes]:
    if value is None:
        return b"n", b""
    if isinstance(value, str):
        return b"s", value.encode("utf-8", "surrogatepass")
    if isinstance(value, int):
        return b"i", b"%d" % value
    if isinstance(value, bytes | bytearray | memoryview):
        return b"b", bytes(value)
    return b"o", repr(value).encode()
