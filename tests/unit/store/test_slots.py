"""What hosts say of their slots: one word of each host, authenticated, and gone with the host."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import NotFound, Unavailable
from provision.slots import Failure, HostSlots
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store

ONE = HostSlots(f"a a {'0a' * 32} - idle", NOW, 2, {"0b" * 32: Failure(1, "libvirt does not answer", NOW)})


def test_it_is_there_until_its_host_is_gone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1), host(2)), ROOT)
        assert store.slots.of("n1") is None
        store.slots.put("n1", replace(ONE, attempt=1))
        store.slots.put("n1", ONE)
        store.slots.put("n2", replace(ONE, failed={}))
        with pytest.raises(NotFound):
            store.slots.put("n9", ONE)
        assert store.slots.of("n9") is None
    with open_store(tmp_path) as again:
        again.accept()
        assert again.slots.of("n1") == ONE and again.database.recheck()
        again.hosts.apply(inventory(host(1)), ROOT)
        assert again.slots.of("n2") is None and again.database.recheck()


def test_what_somebody_else_wrote_is_seen(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
        store.accept()
        store.slots.put("n1", ONE)
        connection = sqlite3.connect(tmp_path / "provision.db")
        with connection:
            connection.execute("UPDATE slots SET failed = '{}'")
        connection.close()
        assert not store.database.recheck()


def test_a_row_that_no_host_can_have_said_is_told_when_the_store_is_opened(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
        store.slots.put("n1", ONE)
    connection = sqlite3.connect(tmp_path / "provision.db")
    with connection:
        connection.execute("UPDATE slots SET said = 'a a x'")
    connection.close()
    with pytest.raises(Unavailable, match="a row that is damaged; restore"), open_store(tmp_path):
        pass
