"""Identities on hosts' disks: one of each host, authenticated, and gone with the host."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import NotFound
from provision.stored import Holds, Ordered, StoredIdentity
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store

ONE = StoredIdentity("17", "mgmt", Holds("a" * 64, {"tls": 2, "keytab": 1}), NOW)


def test_it_is_there_until_it_is_removed(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1), host(2)), ROOT)
        assert store.identities.of("n1") is None and not store.identities.order("n1", Ordered.WIPE)
        store.identities.put("n1", replace(ONE, boot="16"))
        store.identities.put("n1", ONE)
        store.identities.put("n2", replace(ONE, network=""))
        assert store.identities.order("n1", Ordered.WIPE)
        with pytest.raises(NotFound):
            store.identities.put("n9", ONE)
        assert store.identities.of("n9") is None
    with open_store(tmp_path) as again:
        again.accept()
        assert again.identities.of("n1") == replace(ONE, ordered=Ordered.WIPE)
        again.identities.remove("n1")
        again.identities.remove("n1")
        assert again.identities.of("n1") is None and again.database.recheck()
        again.hosts.apply(inventory(host(1)), ROOT)
        assert again.identities.of("n2") is None and again.database.recheck()


def test_what_somebody_else_wrote_is_seen(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
        store.accept()
        store.identities.put("n1", ONE)
        connection = sqlite3.connect(tmp_path / "provision.db")
        with connection:
            connection.execute("UPDATE identities SET ordered = 'wipe'")
        connection.close()
        assert not store.database.recheck()
