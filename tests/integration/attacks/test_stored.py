"""An attacker who can write the database, but has no key: nothing goes to a wrong MAC, nothing older opens, and it is
reported.

The rows are changed through SQLite by another process's connection, with the service stopped and with it running.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from provision.boot import Medium
from provision.errors import Unavailable
from provision.host import Host
from provision.secret import Secret
from provision.service.service import Service
from tests.helpers.cli_runner import cli
from tests.helpers.principals import ROOT
from tests.helpers.serving import serve
from tests.helpers.site_fixture import INVENTORY, MAC1, MAC2, STRANGER, Clock, charged, origin, settings, sources
from tests.helpers.stored_site import FUTURE, TABLES, TRUTH, Past, backup, gains, make_past, opened, raw, refused

Attack = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return make_past(tmp_path_factory.mktemp("past"))


def test_everybody_gets_what_is_his(past: Past, tmp_path: Path) -> None:
    """What the other tests rest on."""
    with opened(past.copy(tmp_path / "state")) as service:
        assert gains(service) == TRUTH and service.core.store.database.recheck()
        assert service.reports.status(ROOT).problems == ()


def document(connection: sqlite3.Connection, name: str, **fields: Any) -> None:
    """Put another host's document in place of a host's own, valid and with the revision that goes with it."""
    (text,) = connection.execute("SELECT document FROM hosts WHERE name = ?", (name,)).fetchone()
    host = Host.model_validate(json.loads(text) | fields)
    row = (host.canonical().decode(), host.revision, name)
    connection.execute("UPDATE hosts SET document = ?, revision = ? WHERE name = ?", row)


def other_mac(connection: sqlite3.Connection) -> None:
    nic = {"macs": [STRANGER], "network": "mgmt", "addressing": "dhcp"}
    document(connection, "node1", netboot="always", interfaces={"mgmt": nic})
    connection.execute("UPDATE macs SET mac = ? WHERE mac = ?", (STRANGER, MAC1))


def swapped_hosts(connection: sqlite3.Connection) -> None:
    """node1's identity, credentials and all, under the MAC of node2, which may always boot."""
    connection.execute("UPDATE hosts SET name = 'x' WHERE name = 'node1'")
    connection.execute("UPDATE hosts SET name = 'node1' WHERE name = 'node2'")
    connection.execute("UPDATE hosts SET name = 'node2' WHERE name = 'x'")


def older_row(past: Past, table: str) -> Attack:
    """Put back every row of a table as it once was."""

    def attack(connection: sqlite3.Connection) -> None:
        connection.execute("ATTACH ? AS past", (str(past.older),))
        connection.execute(f"DELETE FROM {table}")
        connection.execute(f"INSERT INTO {table} SELECT * FROM past.{table}")
        connection.commit()
        connection.execute("DETACH past")

    return attack


def sql(*statements: str) -> Attack:
    return lambda connection: [connection.execute(statement) for statement in statements]


ATTACKS: dict[str, Attack] = {
    "another MAC": other_mac,
    "always": lambda c: document(c, "node1", netboot="always"),
    "never becomes always, with a credential": lambda c: document(c, "node3", netboot="always", credentials=["token"]),
    "two hosts exchange names": swapped_hosts,
    "a window is opened again": sql(f"UPDATE windows SET closed = 0, used = 0, expires = '{FUTURE}'"),
    "a window has more boots": sql("UPDATE windows SET closed = 0, boots = 100"),
    "a window of another host": sql(
        "UPDATE windows SET closed = 0, host_id = (SELECT id FROM hosts WHERE name = 'node3')"
    ),
    "a window made up": sql(
        "INSERT INTO windows (host_id, opened, expires, boots, used, closed, actor)"
        f" SELECT id, '2026-03-01T11:59:00.000000Z', '{FUTURE}', 9, 0, 0, 'uid=0' FROM hosts WHERE name = 'node1'"
    ),
    "a link is good again": sql(f"UPDATE links SET revoked = 0, taken = '[]', expires = '{FUTURE}'"),
    "a boot is charged again": sql("UPDATE boots SET charged = '2026-03-01T12:00:01.000000Z', up = NULL"),
    "boots are gone": sql("DELETE FROM boots"),
    "the base image is another": sql(f"UPDATE bases SET base_id = '{'e' * 64}'"),
    "versions begin again": sql("UPDATE credential_versions SET latest = 0"),
    "a credential is another host's": sql(
        "UPDATE credentials SET host_id = (SELECT id FROM hosts WHERE name = 'node3')"
        " WHERE host_id = (SELECT id FROM hosts WHERE name = 'node1')"
    ),
    "a credential is gone": sql("DELETE FROM credentials"),
    "the record is gone": sql("DELETE FROM meta WHERE name = 'record'"),
    "made before there were records": sql(
        "DELETE FROM meta WHERE name = 'record'", "UPDATE meta SET value = '1' WHERE name = 'schema'"
    ),
    "a newer generation": sql("UPDATE meta SET value = replace(value, '1 ', '9 ') WHERE name = 'record'"),
    "everything is gone": sql(*(f"DELETE FROM {table}" for table in TABLES), "DELETE FROM meta WHERE name = 'record'"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_changed_while_it_was_stopped(past: Past, tmp_path: Path, attack: Attack) -> None:
    state = past.copy(tmp_path / "state")
    with raw(state) as connection:
        attack(connection)
    refused(state)
    refused(state)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_changed_while_it_runs(past: Past, tmp_path: Path, attack: Attack) -> None:
    state = past.copy(tmp_path / "state")
    with opened(state) as service:
        with raw(state) as connection:
            attack(connection)
        assert gains(service) <= TRUTH
        assert not service.core.store.database.recheck()
        assert gains(service) == set() and service.reports.status(ROOT).problems
        for write in (
            lambda: service.windows.open("node1", 60, 1, ROOT),
            lambda: service.credentials.remove("node1", "token", ROOT),
        ):
            with pytest.raises(Unavailable, match="provision store accept"):
                write()  # would make the changed rows the right ones
    refused(state)


@pytest.mark.parametrize("table", TABLES)
def test_the_rows_of_once(past: Past, tmp_path: Path, table: str) -> None:
    """Complete rows that were right once: the older credential opens no more, the window stays shut."""
    if table in ("site", "hosts", "macs", "bases"):
        with opened(past.copy(tmp_path / "same")):
            pass  # these are as they were: putting them back changes nothing
        with raw(tmp_path / "same") as connection:
            older_row(past, table)(connection)
        with opened(tmp_path / "same") as service:
            assert service.core.store.database.distrust == "" and gains(service) == TRUTH
        return
    state = past.copy(tmp_path / "stopped")
    with raw(state) as connection:
        older_row(past, table)(connection)
    assert "did not write" in refused(state)
    state = past.copy(tmp_path / "running")
    with opened(state) as service:
        with raw(state) as connection:
            older_row(past, table)(connection)
        assert gains(service) <= TRUTH
    refused(state)


def test_two_credentials_of_a_host_exchange_names(past: Past, tmp_path: Path) -> None:
    both = INVENTORY.replace(
        "token: {kind: token, path: /etc/token}",
        "token: {kind: token, path: /etc/token}\n    spare: {kind: token, path: /etc/spare}",
    )
    both = both.replace("  node1:\n    credentials: [token]", "  node1:\n    credentials: [token, spare]")
    state = past.copy(tmp_path / "state")
    with opened(state) as service:
        service.inventories.apply(sources(both), prune=True, confirmed=True, principal=ROOT)
        service.credentials.put("node1", "spare", Secret(b"spare"), None, None, ROOT)
    with raw(state) as connection:
        for old, new in (("token", "x"), ("spare", "token"), ("x", "spare")):
            connection.execute("UPDATE credentials SET name = ? WHERE name = ?", (new, old))
    refused(state)


def test_the_whole_database_of_once(past: Past, tmp_path: Path) -> None:
    state = past.copy(tmp_path / "state")
    for name in ("provision.db-wal", "provision.db-shm"):
        (state / name).unlink(missing_ok=True)
    shutil.copy(past.older, state / "provision.db")
    assert "is older (generation" in refused(state)
    (state / "provision.toml").write_text("")
    with serve(state) as served:
        assert "is older" in cli(state, "status").out and served.process.poll() is None
        rules = {row["rule"] for row in cli(state, "explain", "node2", "--json").json}
        assert rules == {"store-not-trusted"}
        denied = cli(state, "iso", "node1", "-o", tmp_path / "node1.iso")
        assert denied.code != 0 and "provision store accept" in denied.err and not (tmp_path / "node1.iso").exists()


STEPS: dict[str, Callable[[Service], object]] = {
    "charged": lambda service: charged(service.netboot.seed(origin(), None)),
    "closed": lambda service: service.windows.close("node1", ROOT),
    "revoked": lambda service: service.credentials.remove("node1", "token", ROOT),
    "renewed": lambda service: service.credentials.put("node1", "token", Secret(b"next"), None, None, ROOT),
    "applied": lambda service: service.inventories.apply(
        sources(INVENTORY.replace("always", "never")), prune=True, confirmed=True, principal=ROOT
    ),
    "up": lambda service: service.netboot.phone_home.up("node2", up_key(service)),
}


def up_key(service: Service) -> bytes:
    return service.core.store.keys.phone_home(service.core.store.boots.of("node2")[0].id, "node2").reveal()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_one_step_back_after_kill(past: Past, tmp_path: Path, step: Callable[[Service], object]) -> None:
    """The very last change is undone by putting the database back, and the service was killed just after it."""
    state, killed = past.copy(tmp_path / "state"), tmp_path / "killed"
    with opened(state) as service:
        service.windows.open("node1", 60, 1, ROOT)
        charged(service.netboot.seed(origin(MAC2), None))
        backup(state, tmp_path / "before.db")
        step(service)
        shutil.copytree(state, killed, ignore=shutil.ignore_patterns("provision.db*", "*.sock"))
        shutil.copy(tmp_path / "before.db", killed / "provision.db")
    assert "is older (generation" in refused(killed)


def test_killed_anywhere_it_is_believed(past: Past, tmp_path: Path) -> None:
    """However a change ends, what the disk has by then is no attack: the log is never ahead of the database."""
    point, killed = 0, True
    while killed:
        point += 1
        state = past.copy(tmp_path / str(point))
        killed = _killed_at(point, state)
        with opened(state) as service:
            assert service.core.store.database.distrust == "", point
            assert ("iso", "node1", "node1") in gains(service)
        shutil.rmtree(state)
    assert point > 20


def _killed_at(point: int, state: Path) -> bool:
    """Open a window and charge a boot in a child that is killed at its `point`-th write, sync or commit."""
    child = os.fork()
    if child == 0:
        count = 0

        def step(*_: object, **__: object) -> None:
            nonlocal count
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)

        def stepping(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any) -> Any:
                step()
                done = call(*arguments)
                step()
                return done

            return wrapped

        try:
            event.listen(Engine, "after_cursor_execute", step)
            event.listen(Engine, "commit", step)
            os.write, os.pwrite, os.fdatasync = stepping(os.write), stepping(os.pwrite), stepping(os.fdatasync)
            service = Service.open(settings(state), Clock())
            service.windows.open("node1", 60, 1, ROOT)
            charged(service.netboot.seed(origin(), None))
            service.windows.close("node1", ROOT)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_trigger_undoes_every_charge(past: Past, tmp_path: Path) -> None:
    """The database's own programs are somebody else's, too: what they write is not believed either."""
    state = past.copy(tmp_path / "state")
    with opened(state) as service:
        service.windows.open("node1", 60, 1, ROOT)
        with raw(state) as connection:
            connection.execute(
                "CREATE TRIGGER again AFTER UPDATE ON windows WHEN new.used > 0"
                " BEGIN UPDATE windows SET used = 0 WHERE id = new.id; END"
            )
        assert charged(service.netboot.seed(origin(), None)).data
        store, now = service.core.store, service.core.clock()
        other = store.boots.begin("node1", "52:54:00:00:00:31", Medium.PXE, "mgmt", now, "another")
        with pytest.raises(Unavailable, match="provision store accept"):
            store.boots.charge(other, now)
        assert gains(service) == set()
    refused(state)


def test_numbers_of_boots_never_come_back(past: Past, tmp_path: Path) -> None:
    """A boot's number makes its phone-home key: a sequence that is set back must not make an old key good again."""
    state = past.copy(tmp_path / "state")
    with raw(state) as connection:
        assert connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'boots'").fetchone()[0] >= 1
    with opened(state) as service:
        newest = service.core.store.boots.begin("node2", MAC2, Medium.PXE, "mgmt", service.core.clock(), "a")
        service.inventories._core.store.hosts.apply(
            service.inventories.current(ROOT).model_copy(update={"hosts": ()}), ROOT
        )
        service.core.witness()
    with raw(state) as connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'boots'")
    with opened(state) as service:
        store = service.core.store
        assert store.database.distrust == "" and store.database._record.last_boot == newest.id
        hosts = Host.model_validate(
            {"name": "node9", "interfaces": {"mgmt": {"macs": [MAC2], "network": "mgmt", "addressing": "dhcp"}}}
        )
        store.hosts.apply(service.inventories.current(ROOT).model_copy(update={"hosts": (hosts,)}), ROOT)
        with pytest.raises(Unavailable, match="provision store accept"):
            store.boots.begin("node9", MAC2, Medium.PXE, "mgmt", service.core.clock(), "a")
