"""Schema changes: each is made whole or not at all, and nothing newer or broken is touched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect

from provision.errors import Unavailable
from provision.secret import Secret
from provision.store import dialect, migrations, schema
from provision.store.keys import MasterKey, create_key
from provision.store.migrations import MIGRATIONS, Migration, migrate
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import host, inventory, open_store

NEW, NOW = len(MIGRATIONS) + 1, str(len(MIGRATIONS))
NEXT = Migration(
    NEW,
    "racks",
    (
        "CREATE TABLE racks (id {id}, name TEXT NOT NULL)",
        "INSERT INTO racks (name) VALUES ('r1')",
        "ALTER TABLE hosts ADD COLUMN rack INTEGER REFERENCES racks (id)",
        "UPDATE hosts SET rack = 1",
        "DROP TABLE bases",
    ),
)


def shape(engine: Engine) -> dict[str, Any]:
    """What a database looks like, in words that can be compared."""
    inspector = inspect(engine)
    with engine.connect() as connection:
        return {
            table: (
                connection.exec_driver_sql(f"PRAGMA table_info({table})").all(),
                sorted((i["name"], tuple(i["column_names"]), i["unique"]) for i in inspector.get_indexes(table)),
                # The inspector misses ON DELETE in a column's own REFERENCES.
                sorted(row[2:] for row in connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})")),
                sorted(tuple(u["column_names"]) for u in inspector.get_unique_constraints(table)),
            )
            for table in inspector.get_table_names()
            if not table.startswith("sqlite_")
        }


def stored(path: Path) -> tuple[str, set[str], bool]:
    """The schema's number, the tables, and whether hosts have a rack, read without our own code."""
    raw = sqlite3.connect(path)
    try:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "meta" not in tables:
            return "0", tables, False
        (number,) = raw.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        columns = {row[1] for row in raw.execute("PRAGMA table_info(hosts)")}
        if "rack" in columns:
            assert raw.execute("SELECT DISTINCT rack FROM hosts").fetchall() == [(1,)]
        return number, tables, "rack" in columns
    finally:
        raw.close()


def test_migrations_make_the_schema_that_queries_use(tmp_path: Path) -> None:
    migrated, created = dialect.open_file(tmp_path / "a.db"), dialect.open_file(tmp_path / "b.db")
    migrate(dialect.writer(migrated), "a.db")
    schema.metadata.create_all(created)
    assert shape(migrated) == shape(created)
    assert len(shape(migrated)) == len(schema.metadata.tables) > 5


def test_numbers_are_in_order() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    for migration in MIGRATIONS:
        for words in dialect._WORDS.values():
            assert all(statement.format_map(words) for statement in migration.statements)


def test_a_second_migration_keeps_the_data(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
    engine = dialect.open_file(tmp_path / "provision.db")
    for _ in range(2):
        migrate(dialect.writer(engine), "x", (*MIGRATIONS, NEXT))
    engine.dispose()
    number, tables, rack = stored(tmp_path / "provision.db")
    assert number == str(NEW) and "racks" in tables and "bases" not in tables and rack


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path):
        pass
    raw = sqlite3.connect(tmp_path / "provision.db")
    raw.execute("UPDATE meta SET value = '8' WHERE name = 'schema'")
    raw.commit()
    raw.close()
    before = (tmp_path / "provision.db").read_bytes()
    with pytest.raises(Unavailable, match=rf"newer provision \(schema 8; this one knows {NOW}\)"):
        open_store(tmp_path)
    assert (tmp_path / "provision.db").read_bytes() == before


def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
    before = stored(tmp_path / "provision.db")
    broken = Migration(NEW, "broken", (*NEXT.statements, "CREATE TABLE hosts (x TEXT)"))
    engine = dialect.open_file(tmp_path / "provision.db")
    with pytest.raises(Unavailable), dialect.errors("x"):
        migrate(dialect.writer(engine), "x", (*MIGRATIONS, broken))
    engine.dispose()
    assert stored(tmp_path / "provision.db") == before
    with open_store(tmp_path) as store:
        assert store.hosts.inventory() == inventory(host(1))


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + bytes(84)], ids=["empty", "header"])
def test_an_empty_file_is_a_new_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_text("ab" * 32)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "provision.db").write_bytes(content)
    if content:
        with pytest.raises(Unavailable, match="damaged"):
            open_store(tmp_path)
    else:
        open_store(tmp_path).close()


def killed_after(point: int, action: Any) -> bool:
    """Run `action` in a child that is killed with SIGKILL at its `point`-th statement or commit; True when it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def step(*_: object) -> None:
            nonlocal count
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            event.listen(Engine, "after_cursor_execute", step)
            event.listen(Engine, "commit", step)
            action()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.integration
def test_killed_at_every_point_of_a_migration(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    with open_store(origin) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
    old = stored(origin / "provision.db")
    seen, point, running = set(), 0, True
    while running:
        point += 1
        state = tmp_path / str(point)
        shutil.copytree(origin, state)

        def action(path: Path = state / "provision.db") -> None:
            migrate(dialect.writer(dialect.open_file(path)), "x", (*MIGRATIONS, NEXT))

        running = killed_after(point, action)
        now = stored(state / "provision.db")
        assert now == old or (now[0] == str(NEW) and now[2] and "racks" in now[1] and "bases" not in now[1])
        seen.add(now[0])
        engine = dialect.open_file(state / "provision.db")
        migrate(dialect.writer(engine), "x", (*MIGRATIONS, NEXT))
        engine.dispose()
        assert stored(state / "provision.db")[0] == str(NEW)
    assert seen == {NOW, str(NEW)} and point > len(NEXT.statements)


@pytest.mark.integration
def test_killed_at_every_point_of_the_first_opening(tmp_path: Path) -> None:
    seen, point, running = set(), 0, True
    while running:
        point += 1
        state = tmp_path / str(point)
        state.mkdir()
        key = create_key(state)

        def action(state: Path = state, key: MasterKey = key) -> None:
            Store.open(state, key)

        running = killed_after(point, action)
        number, tables, _ = stored(state / "provision.db")
        done = " ".join(text for migration in MIGRATIONS[: int(number)] for text in migration.statements)
        assert tables - {"sqlite_sequence"} == set(re.findall(r"CREATE TABLE (\w+)", done))
        seen.add(number)
        with Store.open(state, key) as store:
            store.hosts.apply(inventory(host(1)), ROOT)
        with pytest.raises(Unavailable, match="another master key"):
            Store.open(state, MasterKey(Secret(bytes(32))))
    assert seen == {"0", *(str(migration.number) for migration in MIGRATIONS)} and point > len(
        migrations.MIGRATIONS[0].statements
    )
