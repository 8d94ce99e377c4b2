"""The inventory at rest: exactly what was applied, and only the difference is written."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import provision.store
from provision import link as secret_links
from provision.boot import Medium
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.host import Netboot
from provision.secret import Secret
from provision.slots import HostSlots
from provision.store import dialect, schema
from provision.store.bmc_boots import BmcBoot
from provision.store.bmcs import Bmc
from provision.store.compromises import Content
from provision.store.keys import create_key
from provision.store.links import Wanted
from provision.store.lock import StateLock
from provision.store.sightings import LIMIT
from provision.store.store import Store
from provision.stored import Holds, StoredIdentity
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, credential, host, inventory, mac, open_store, statements
from tests.helpers.tpm_samples import tpm


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def test_nothing_applied(store: Store) -> None:
    assert store.hosts.inventory() is None
    assert store.snapshot.site is None and not store.snapshot.hosts


def test_apply_is_what_comes_back(store: Store, tmp_path: Path) -> None:
    wanted = inventory(host(1), host(2, Netboot.ALWAYS, labels={"rack": "r1"}))
    applied = store.hosts.apply(wanted, ROOT)
    assert (applied.added, applied.changed, applied.removed, applied.site) == (("n1", "n2"), (), (), True)
    assert store.hosts.inventory() == wanted
    before = store.snapshot
    store.close()
    with open_store(tmp_path) as again:
        assert again.hosts.inventory() == wanted
        assert again.snapshot.revisions == before.revisions
        assert {h.name: h.revision for h in again.snapshot.hosts.values()} == {h.name: h.revision for h in wanted.hosts}
        assert again.snapshot.ids == before.ids
        assert again.snapshot.by_mac == {mac(1): "n1", mac(2): "n2"}


def test_snapshot_is_immutable_and_replaced(store: Store) -> None:
    store.hosts.apply(inventory(host(1)), ROOT)
    first = store.snapshot
    store.hosts.apply(inventory(host(2)), ROOT)
    assert set(first.hosts) == {"n1"} and set(store.snapshot.hosts) == {"n2"}
    assert store.snapshot.change > first.change
    with pytest.raises(TypeError):
        first.hosts["n3"] = host(3)  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        first.site = None  # type: ignore[misc]


def test_only_the_difference_is_written(store: Store) -> None:
    store.hosts.apply(inventory(*(host(i) for i in range(20))), ROOT)
    with statements() as seen:
        applied = store.hosts.apply(inventory(*(host(i, labels={"a": "b"} if i == 7 else {}) for i in range(20))), ROOT)
    assert applied.changed == ("n7",) and not applied.added and not applied.site
    writes = [(s.split()[0], s.split()[1:3], n) for s, n in seen if s.split()[0] in ("INSERT", "UPDATE", "DELETE")]
    assert [(verb, count) for verb, _, count in writes] == [("DELETE", 1), ("UPDATE", 1), ("INSERT", 1)]
    with statements() as seen:
        store.hosts.apply(store.hosts.inventory() or inventory(), ROOT)
    assert not [s for s, _ in seen if s.split()[0] in ("INSERT", "UPDATE", "DELETE")]


def test_work_grows_with_rows_only(tmp_path: Path) -> None:
    counts = []
    for size in (10, 400):
        state = tmp_path / str(size)
        state.mkdir()
        with open_store(state) as store, statements() as seen:
            store.hosts.apply(inventory(*(host(i) for i in range(size))), ROOT)
            counts.append(len(seen))
    assert counts[0] == counts[1]


@pytest.mark.integration
def test_ten_thousand_hosts(tmp_path: Path) -> None:
    hosts = [host(i) for i in range(10_000)]
    with open_store(tmp_path) as store:
        # Of the processor: a busy machine takes longer by the clock.
        began = time.process_time()
        store.hosts.apply(inventory(*hosts), ROOT)
        assert time.process_time() - began < 20
        assert len(store.snapshot.by_mac) == 10_000
    with open_store(tmp_path) as store:
        assert store.hosts.inventory() == inventory(*sorted(hosts, key=lambda h: h.name))


def test_a_mac_may_move(store: Store) -> None:
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    swapped = inventory(host(1, interfaces=host(2).interfaces), host(2, interfaces=host(1).interfaces))
    store.hosts.apply(swapped, ROOT)
    assert store.snapshot.by_mac == {mac(1): "n2", mac(2): "n1"}
    store.hosts.apply(inventory(host(3, interfaces=host(1).interfaces)), ROOT)
    assert store.snapshot.by_mac == {mac(1): "n3"}


@pytest.mark.parametrize("other", [host(1), host(2, interfaces=host(1).interfaces)], ids=["name", "mac"])
def test_two_of_one_change_nothing(store: Store, other: object) -> None:
    store.hosts.apply(inventory(host(9)), ROOT)
    with pytest.raises(Invalid):
        store.hosts.apply(inventory(host(1), other), ROOT)  # type: ignore[arg-type]
    assert store.hosts.inventory() == inventory(host(9))
    with store.database.read() as tx:
        assert [row.name for row in tx.connection.execute(schema.hosts.select())] == ["n9"]


def test_files_are_private(store: Store, tmp_path: Path) -> None:
    store.hosts.apply(inventory(host(1)), ROOT)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert files == dict.fromkeys(("key", "provision.db", "provision.db-wal", "provision.db-shm"), 0o600)


def test_every_connection_is_durable_and_strict(store: Store) -> None:
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 10000}
    with store.database.read() as first, store.database.read() as second:
        for tx in (first, second):
            assert {n: tx.connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in pragmas} == pragmas


def test_an_open_database_is_made_private(store: Store, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "provision.db").chmod(0o644)
    open_store(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "provision.db").stat().st_mode) == 0o600


def test_removing_a_host_removes_what_it_had(store: Store, tmp_path: Path) -> None:
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    for name in ("n1", "n2"):
        store.credentials.set(name, credential(b"canary " * 40), NOW)
        store.credentials.set(name, replace(credential(b"canary " * 40), held=1), NOW)
        store.windows.open(name, 10, 1, NOW, ROOT)
        store.links.make(name, secret_links.new(), Wanted(Medium.ISO, "i", "s", "c", 10, 1), NOW, ROOT)
        store.boots.begin(name, mac(int(name[1])), Medium.PXE, "mgmt", NOW, None)
        store.bmcs.set(name, Bmc("https://10.0.0.201", "root", "", "", "", NOW, "x"), Secret(b"word"))
        store.bmc_boots.put(BmcBoot(name, NOW, True, (), "x"))
        store.rollouts.move([name], NOW)
        store.tpms.put(tpm(name, int(name[1]), loader="a certificate"))
        store.tpms.rise(name, (1, 0))
        store.tpms.has_opened(name, 1)
        store.enrolments.open(name, 10, NOW, ROOT)
        store.enrolments.take({name: "ab" * 32}, NOW, ROOT)
        store.envelopes.number(name, "content", NOW)
        store.identities.put(name, StoredIdentity("1", "mgmt", Holds("a" * 64, {"tls": 1}), NOW))
        store.slots.put(name, HostSlots(f"a a {'a' * 64} - idle", NOW))
        store.compromises.declare(name, [Content("tls", 1, Secret(b"canary"))], [], NOW, ROOT)
    with sqlite3.connect(tmp_path / "provision.db") as raw:
        ciphertext = dict(raw.execute("SELECT host_id, ciphertext FROM credentials"))[store.snapshot.ids["n1"]]
    store.hosts.apply(inventory(host(2)), ROOT)
    tables = [t for t in schema.metadata.sorted_tables if "host_id" in t.c]
    assert len(tables) == 21
    with store.database.read() as tx:
        for table in tables:
            assert {row.host_id for row in tx.connection.execute(table.select())} == {store.snapshot.ids["n2"]}, table
    # Not only unlinked: overwritten, also in the write-ahead log.
    assert not [p.name for p in tmp_path.iterdir() if ciphertext in p.read_bytes()]
    assert store.windows.of("n1") is None
    with pytest.raises(NotFound):
        store.boots.of("n1")


def test_the_canary_is_nowhere_in_clear(store: Store, tmp_path: Path) -> None:
    store.hosts.apply(inventory(host(1)), ROOT)
    store.credentials.set("n1", credential(b"canary-canary-canary"), NOW)
    assert not [p.name for p in tmp_path.iterdir() if b"canary-canary" in p.read_bytes()]


def test_revisions_follow_what_the_seed_is_made_of(store: Store) -> None:
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    seen = [store.snapshot.revisions["n1"]]
    other = store.snapshot.revisions["n2"]

    def changed(to: bool) -> None:
        now = store.snapshot.revisions["n1"]
        assert (now not in seen) is to
        seen.append(now)

    store.credentials.set("n1", credential(b"a"), NOW)
    changed(True)
    store.credentials.set("n1", credential(b"a"), NOW)
    changed(True)
    store.credentials.remove("n1", "tls")
    store.credentials.set("n1", credential(b"a"), NOW)
    changed(True)
    store.credentials.set("n1", credential(b"a", "not-named-by-the-host"), NOW)
    changed(False)
    store.hosts.apply(inventory(host(1, labels={"a": "b"}), host(2)), ROOT)
    changed(True)
    assert store.snapshot.revisions["n2"] == other
    store.hosts.apply(inventory(host(1, labels={"a": "b"}), host(2), domain="example.net"), ROOT)
    changed(True)
    assert store.snapshot.revisions["n2"] != other
    store.hosts.apply(inventory(host(2)), ROOT)
    store.hosts.apply(inventory(host(1)), ROOT)
    store.credentials.set("n1", credential(b"other bytes, same version number"), NOW)
    changed(True)


def test_reading_needs_no_sql(store: Store) -> None:
    store.hosts.apply(inventory(host(1)), ROOT)
    store.windows.open("n1", 10, 1, NOW, ROOT)
    boot = store.boots.begin("n1", mac(1), Medium.PXE, "mgmt", NOW, "r")
    assert store.boots.charge(boot, NOW)
    with statements() as seen:
        assert store.snapshot.hosts[store.snapshot.by_mac[mac(1)]] == host(1)
        assert store.windows.of("n1") and store.hosts.inventory()
        again = store.boots.begin("n1", mac(1), Medium.PXE, "mgmt", NOW, "r")
        assert store.boots.charge(again, NOW + timedelta(minutes=1))
        store.keys.phone_home(again.id, "n1")
    assert seen == []


def test_bases(store: Store, tmp_path: Path) -> None:
    store.bases.name("debian", "a" * 64)
    store.bases.name("debian", "b" * 64)
    store.bases.name("alma", "c" * 64)
    store.hosts.apply(inventory(host(1, base="debian")), ROOT)
    store.close()
    with open_store(tmp_path) as again:
        assert again.snapshot.bases == {"alma": "c" * 64, "debian": "b" * 64}
        with pytest.raises(Conflict, match="n1"):
            again.bases.forget("debian")
        again.bases.forget("alma")
        with pytest.raises(NotFound):
            again.bases.forget("alma")
        again.hosts.apply(inventory(), ROOT)
        again.bases.forget("debian")
        assert again.snapshot.bases == {}


def test_unknown_macs(store: Store, tmp_path: Path) -> None:
    store.hosts.apply(inventory(host(1)), ROOT)
    store.sightings.seen(mac(5), None, "mgmt", NOW)
    store.sightings.seen(mac(6), "4c4c4544-0000-1000-8000-000000000001", "mgmt", NOW)
    store.sightings.seen(mac(5), None, "office", NOW + timedelta(minutes=1))
    store.sightings.seen(mac(6), None, "mgmt", NOW + timedelta(minutes=2))
    expected = [(mac(6), "mgmt", 2), (mac(5), "office", 1), (mac(5), "mgmt", 1)]
    assert [(s.mac, s.network, s.count) for s in store.sightings.all()] == expected
    store.close()
    with open_store(tmp_path) as again:
        of_first = [(mac(6), "mgmt", 2), (mac(5), "mgmt", 1)]
        assert [(s.mac, s.network, s.count) for s in again.sightings.all()] == of_first
        assert again.sightings.all()[0].first == NOW and again.sightings.all()[0].last == NOW + timedelta(minutes=2)
        again.hosts.apply(inventory(host(5)), ROOT)
        assert [s.mac for s in again.sightings.all()] == [mac(6)]


def test_unknown_macs_are_bounded_and_cheap(store: Store, tmp_path: Path) -> None:
    store.sightings.seen(mac(0), None, "mgmt", NOW)
    with statements() as seen:
        for number in range(1, LIMIT + 100):
            store.sightings.seen(mac(number), None, "mgmt", NOW + timedelta(seconds=number))
    assert len(seen) < LIMIT / 10
    assert len(store.sightings.all()) == LIMIT
    assert store.sightings.all()[-1].mac == mac(100)
    store.close()
    with open_store(tmp_path) as again:
        assert len(again.sightings.all()) == LIMIT and again.sightings.all()[0].mac == mac(LIMIT + 99)
        with again.database.read() as tx:
            assert len(tx.connection.execute(schema.unknown_macs.select()).all()) == LIMIT


def test_unknown_macs_of_one_network_are_not_forgotten_for_those_of_another(store: Store, tmp_path: Path) -> None:
    store.sightings.seen(mac(9000), None, "mgmt", NOW)
    for number in range(LIMIT + 100):
        store.sightings.seen(mac(number), None, "guest", NOW + timedelta(seconds=number))
    store.sightings.seen(mac(9000), None, "guest", NOW + timedelta(days=1))
    assert [s.network for s in store.sightings.all() if s.mac == mac(9000)] == ["guest", "mgmt"]
    assert len(store.sightings.all()) == LIMIT + 1
    store.close()
    with open_store(tmp_path) as again:
        assert [(s.network, s.count) for s in again.sightings.all() if s.mac == mac(9000)] == [("mgmt", 1)]
        assert len(again.sightings.all()) == LIMIT


def test_a_statement_is_run_by_the_driver(store: Store) -> None:
    c = schema.meta.c
    put = dialect.Statement(insert(schema.meta).values(name=bindparam("a"), value=bindparam("b")).returning(c.name))
    first = dialect.Statement(select(c.value).where(c.name == bindparam("a")).limit(1))
    with store.database.write() as tx:
        assert [tuple(row) for row in put.run(tx.connection, a="x", b="y")] == [("x",)]
        assert [tuple(row) for row in first.run(tx.connection, a="x")] == [("y",)]
    with pytest.raises(Unavailable), store.database.write() as tx:
        put.run(tx.connection, a="z", b="y")
        put.run(tx.connection, a="x", b="y")
    assert [tuple(row) for row in first.read(store.database.engine, a="x")] == [("y",)]
    assert first.read(store.database.engine, a="z") == []


def test_one_process_per_state_directory(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(Conflict, match="another provision process"):
        StateLock(tmp_path)
    StateLock(tmp_path).close()
    with pytest.raises(Unavailable, match="provision init"):
        StateLock(tmp_path / "missing")


def test_the_lock_belongs_to_who_has_the_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    StateLock(tmp_path).close()
    assert ((tmp_path / "lock").stat().st_uid, (tmp_path / "lock").stat().st_gid) == (65534, 65534)


def test_a_lock_of_somebody_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(
        Unavailable, match=r"lock: cannot be opened \(Permission denied\); .*chown --reference=\S+ \S+lock'"
    ):
        StateLock(tmp_path)


def test_a_url_names_another_database(tmp_path: Path) -> None:
    key = create_key(tmp_path)
    with Store.open(tmp_path, key, f"sqlite+pysqlite:///{tmp_path}/elsewhere.db") as store:
        store.hosts.apply(inventory(host(1)), ROOT)
    assert not (tmp_path / "provision.db").exists()
    with Store.open(tmp_path, key, f"sqlite+pysqlite:///{tmp_path}/elsewhere.db") as store:
        assert store.hosts.inventory() == inventory(host(1))


def test_only_one_module_knows_sqlite() -> None:
    directory = Path(str(provision.store.__file__)).parent
    knowing = {
        path.name
        for path in directory.glob("*.py")
        if "PRAGMA" in path.read_text() or "import sqlite3" in path.read_text()
    }
    assert knowing == {"dialect.py"}
    assert set(dialect._WORDS) == {"sqlite", "postgresql"}
    for table in schema.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
