"""What is believed of a database that was opened: by its record, and by what the audit log knows."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from provision.boot import Medium
from provision.secret import Secret
from provision.store.audit import Audit
from provision.store.chain import START, Head, Known, decode_head, decode_known, encode_head
from provision.store.keys import load_key
from provision.store.ledger import Record, Standing
from provision.store.migrations import MIGRATIONS
from provision.store.trust import Found, distrust
from tests.helpers.cli_runner import cli
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MAC1, MAC2, TOML, Clock
from tests.helpers.stored_site import TRUTH, Past, gains, make_past, opened, raw

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = Secret(bytes(range(32)))


def found(generation: int, empty: bool = False, standing: Standing = Standing.SOUND) -> Found:
    return Found(standing, Record(generation), empty)


NONE, EMPTY = found(0, standing=Standing.MISSING), found(0, True, Standing.MISSING)
NEW_LOG, OLD_LOG = Known(), Known(entries=True)


@pytest.mark.parametrize(
    ("database", "log", "reason"),
    [
        (found(5), Known(5, NOW, True), ""),
        (found(6), Known(5, NOW, True), ""),
        (found(4), Known(5, NOW, True), "is older (generation 4) than the audit log knows it (5)"),
        (found(5, standing=Standing.ALTERED), Known(5, NOW, True), "holds rows that this program did not write"),
        (found(5), Known(5, NOW, True, sound=False), "whose head is missing or altered"),
        (found(1, True), NEW_LOG, ""),
        (found(1), NEW_LOG, "is not known to the audit log"),
        (found(2), NEW_LOG, "is not known to the audit log"),
        (found(2), OLD_LOG, "is not known to the audit log"),
        (found(1), OLD_LOG, ""),
        (NONE, OLD_LOG, ""),
        (NONE, NEW_LOG, "is not known to the audit log"),
        (NONE, Known(1, NOW, True), "has lost the record of its rows"),
        (EMPTY, NEW_LOG, ""),
        (EMPTY, Known(3, NOW, True), "has lost the record of its rows"),
    ],
)
def test_what_is_believed(database: Found, log: Known, reason: str) -> None:
    assert (reason in distrust(database, log)) if reason else distrust(database, log) == ""


def test_the_head_file_has_what_is_known() -> None:
    head = Head(7, "ab" * 32)
    for known in (Known(), Known(5, NOW), Known(0, NOW)):
        content = encode_head(KEY, head, known)
        assert decode_head(KEY, content) == head and decode_known(KEY, content) == known
        assert decode_known(KEY, content.replace(b"7 ", b"8 ", 1)) is None
        assert decode_known(Secret(bytes(32)), content) is None
    doubted = decode_known(KEY, encode_head(KEY, head, Known(5, NOW, sound=False)))
    assert doubted is not None and not doubted.sound
    assert decode_head(KEY, encode_head(KEY, START)) == START, "as it was before anything was known"
    assert decode_known(KEY, encode_head(KEY, START)) == Known()


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return make_past(tmp_path_factory.mktemp("trust"))


def to_first_schema(connection: sqlite3.Connection) -> None:
    later = [statement for migration in MIGRATIONS[1:] for statement in migration.statements]
    for table in [words[2] for words in map(str.split, later) if words[:2] == ["CREATE", "TABLE"]]:
        connection.execute(f"DROP TABLE {table}")
    connection.execute("UPDATE meta SET value = '1' WHERE name = 'schema'")


def before_records(state: Path) -> Path:
    """Make the state directory what a program without records left."""
    with raw(state) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'record'")
        to_first_schema(connection)
    for name in ("audit.log", "audit.head"):
        (state / name).unlink()
    log = Audit(state / "audit.log", load_key(state, {}), Clock())
    log.record({"event": "apply", "operator": "uid=0"}, durable=True)
    log.close()
    return state


def test_an_upgrade_takes_what_is_there_once(past: Past, tmp_path: Path) -> None:
    state = before_records(past.copy(tmp_path / "state"))
    for _ in range(2):
        with opened(state) as service:
            assert service.core.store.database.distrust == "" and gains(service) == TRUTH
            events = [entry["event"] for entry in service.core.audit.entries(None, 1000)]
            assert events.count("store-authenticated") == 1
    for name in ("audit.log", "audit.head"):
        shutil.copy(state / name, tmp_path / name)
    with raw(state) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'record'")
        to_first_schema(connection)
    with opened(state) as service:
        assert "has lost the record" in service.core.store.database.distrust and gains(service) == set()


@pytest.mark.parametrize("gone", [("audit.log", "audit.head"), ("audit.head",)], ids=["log", "head"])
def test_a_log_that_is_gone_is_no_way_in(past: Past, tmp_path: Path, gone: tuple[str, ...]) -> None:
    state = past.copy(tmp_path / "state")
    for name in gone:
        (state / name).unlink()
    for _ in range(3):
        with opened(state) as service:
            assert service.core.store.database.distrust and gains(service) == set()


def test_an_operator_accepts(past: Past, tmp_path: Path) -> None:
    state = past.copy(tmp_path / "state")
    (state / "provision.toml").write_text(TOML)
    for name in ("provision.db-wal", "provision.db-shm"):
        (state / name).unlink(missing_ok=True)
    shutil.copy(past.older, state / "provision.db")
    assert cli(state, "store", "accept").code == 2
    assert cli(state, "store", "accept", "--reason", " ").code == 3
    assert "ATTENTION: nothing is given away: the database is older" in cli(state, "status").out
    done = cli(state, "store", "accept", "--reason", "restored after the disk failed", "--json").json
    assert done["generation"] == done["before"] + 1 and "is older" in done["was"]
    (entry,) = [e for e in cli(state, "audit", "--json").json if e["event"] == "store-accepted"]
    assert (entry["reason"], entry["operator"]) == ("restored after the disk failed", "uid=0")
    assert (entry["before"], entry["accepted"]) == (done["before"], done["generation"])
    status = cli(state, "status", "--json").json
    assert status["problems"] == []
    assert {row["host"]: row["window"] and row["window"]["open"] for row in status["hosts"]}["node1"] is False
    assert cli(state, "window", "node1").code == 0 and cli(state, "audit", "--verify").code == 0
    with closing(sqlite3.connect(past.older)) as older:
        (record,) = older.execute("SELECT value FROM meta WHERE name = 'record'").fetchone()
    with raw(state) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'record'", (record,))
    assert "did not write" in cli(state, "status").out, "what was accepted is the new state, not every older one"


def test_many_at_once_are_believed(past: Past, tmp_path: Path) -> None:
    """A reader beside writers never takes what is half done for an attack."""
    with opened(past.copy(tmp_path / "state")) as service:
        store, now = service.core.store, service.core.clock()
        acts = (
            lambda n: store.boots.begin("node2", MAC2, Medium.PXE, "mgmt", now, str(n)),
            lambda n: store.boots.charge(store.boots.begin("node1", MAC1, Medium.PXE, "mgmt", now, str(n)), now),
            lambda n: [store.boots.of(name) for name in ("node1", "node2")],
            lambda n: store.windows.open("node1", 60, 3, now, ROOT),
            lambda n: service.credentials.put("node1", "token", Secret(b"%d" % n), None, None, ROOT),
            lambda n: store.credentials.open("node1", ["token"]),
            lambda n: store.database.recheck() if n % 2 else service.core.footing.watch(),
            lambda n: store.bases.name("other", f"{n:064x}"),
        )

        def run(act: Callable[[int], object]) -> None:
            for number in range(40):
                act(number)

        with ThreadPoolExecutor(len(acts)) as pool:
            list(pool.map(run, acts))
        assert store.database.distrust == "" and store.database.recheck()
        service.core.witness()
    with opened(tmp_path / "state") as service:
        assert service.core.store.database.distrust == ""
