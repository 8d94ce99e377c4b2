"""Any row of the database changed in any way, with the service stopped and with it running: a property test."""

from __future__ import annotations

import random
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Unavailable
from tests.helpers.principals import ROOT
from tests.helpers.stored_site import FUTURE, TABLES, TRUTH, Past, gains, make_past, opened, raw, refused


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return make_past(tmp_path_factory.mktemp("past"))


def alter(connection: sqlite3.Connection, table: str, chance: random.Random) -> bool:
    """One change of one row of the table, of any kind; False when it changed nothing."""
    before = connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall()
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    rowids = [row[0] for row in connection.execute(f"SELECT rowid FROM {table}")]
    rowid, column = chance.choice(rowids), chance.choice(columns)
    kind = chance.choice(("alter", "exchange", "delete", "double"))
    try:
        if kind == "delete":
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
        elif kind == "double":
            more = f"CASE typeof({column}) WHEN 'blob' THEN CAST({column} || 'x' AS BLOB) ELSE {column} || 'x' END"
            text = ", ".join(more if name == column else name for name in columns if name != "id")
            names = ", ".join(name for name in columns if name != "id")
            connection.execute(f"INSERT INTO {table} ({names}) SELECT {text} FROM {table} WHERE rowid = ?", (rowid,))
        else:
            here = f"SELECT {column} FROM {table} WHERE rowid = ?"
            (value,) = connection.execute(here, (rowid,)).fetchone()
            (other,) = connection.execute(here, (chance.choice(rowids),)).fetchone()
            new = other if kind == "exchange" else changed(value, chance)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, rowid))
    except sqlite3.IntegrityError:
        return False
    return bool(before != connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall())


def changed(value: Any, chance: random.Random) -> Any:
    """Another value of the same kind, mostly."""
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, 0, 1, 99, -1, str(value)))
    if isinstance(value, bytes):
        at = chance.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
    if isinstance(value, str):
        replaced = value.replace("2026", "2027"), value.replace("window", "always"), value.replace("0", "1", 1)
        return chance.choice((*replaced, value + " ", "", None, value.encode(), sha256(value.encode()).hexdigest()))
    return chance.choice((FUTURE, "2026-03-01T12:00:00.000000Z", 1))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("table", TABLES)
def test_any_row_changed_in_any_way(past: Past, tmp_path: Path, table: str, seed: int) -> None:
    chance = random.Random(f"{table} {seed}")
    stopped, running = past.copy(tmp_path / "stopped"), past.copy(tmp_path / "running")
    done = 0
    with raw(stopped) as connection:
        while not done:
            done += alter(connection, table, chance)
    refused(stopped)
    with opened(running) as service:
        done = 0
        with raw(running) as connection:
            while not done:
                done += alter(connection, table, chance)
        assert gains(service) <= TRUTH
        try:
            assert not service.core.store.database.recheck()
        except Unavailable:
            return  # a value that is of no text at all
        assert gains(service) == set() and service.reports.status(ROOT).problems
    refused(running)
