"""BMCs in the store: the password is sealed to where it goes, and rows are authenticated."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import NotFound, Unavailable
from provision.secret import Secret
from provision.store.bmcs import Bmc
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store

ONE = Bmc("https://10.0.0.201", "root", "", "", "ab" * 32, NOW, "uid=0")
WORD = Secret(b"canary-of-a-bmc")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        opened.accept()
        opened.hosts.apply(inventory(host(1), host(2)), ROOT)
        yield opened


def test_it_is_there_until_it_is_removed(store: Store, tmp_path: Path) -> None:
    store.bmcs.set("n1", ONE, WORD)
    store.close()
    with open_store(tmp_path) as again:
        assert again.bmcs.get("n1") == ONE and again.bmcs.open("n1") == (ONE, WORD)
        other = replace(ONE, user="admin")
        again.bmcs.set("n1", other, Secret(b"new"))
        assert again.bmcs.open("n1") == (other, Secret(b"new"))
        again.bmcs.remove("n1")
        for call in (again.bmcs.get, again.bmcs.open, again.bmcs.remove):
            with pytest.raises(NotFound, match="provision bmc set n1"):
                call("n1")
        assert not again.database.distrust and again.database.recheck()


def test_hosts_have_their_own(store: Store) -> None:
    store.bmcs.set("n1", ONE, WORD)
    with pytest.raises(NotFound):
        store.bmcs.get("n2")
    with pytest.raises(NotFound):
        store.bmcs.set("n9", ONE, WORD)
    store.hosts.apply(inventory(host(2)), ROOT)
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    with pytest.raises(NotFound, match="has not been set"):
        store.bmcs.get("n1")
    assert store.database.recheck()


def test_the_password_is_nowhere_on_the_disk(store: Store, tmp_path: Path) -> None:
    store.bmcs.set("n1", ONE, WORD)
    assert "canary" not in repr(store.bmcs.open("n1"))
    store.close()
    assert not any(WORD.reveal() in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


CHANGES = [
    "UPDATE bmcs SET url = 'https://192.0.2.66'",
    "UPDATE bmcs SET \"user\" = 'x'",
    "UPDATE bmcs SET fingerprint = 'cd'",
    "UPDATE bmcs SET ca = 'x'",
    "UPDATE bmcs SET system = '2'",
]


@pytest.mark.parametrize("change", [*CHANGES, "DELETE FROM bmcs", "UPDATE bmcs SET actor = 'x'"])
def test_a_row_that_somebody_else_wrote_is_not_believed(store: Store, tmp_path: Path, change: str) -> None:
    store.bmcs.set("n1", ONE, WORD)
    store.close()
    execute(tmp_path, change)
    with open_store(tmp_path) as again:
        assert again.database.distrust
        with pytest.raises(Unavailable):
            again.bmcs.open("n1")


def test_a_row_that_changes_meanwhile_is_not_believed(store: Store, tmp_path: Path) -> None:
    store.bmcs.set("n1", ONE, WORD)
    execute(tmp_path, CHANGES[0])
    for call in (store.bmcs.get, store.bmcs.open):
        with pytest.raises(Unavailable):
            call("n1")


@pytest.mark.parametrize("change", CHANGES)
def test_whoever_accepts_a_database_sends_no_password_elsewhere(store: Store, tmp_path: Path, change: str) -> None:
    store.bmcs.set("n1", ONE, WORD)
    store.close()
    execute(tmp_path, change)
    with open_store(tmp_path) as again:
        again.accept()
        with pytest.raises(Unavailable, match="does not open"):
            again.bmcs.open("n1")


def execute(state: Path, statement: str) -> None:
    connection = sqlite3.connect(state / "provision.db")
    with connection:
        connection.execute(statement)
    connection.close()
