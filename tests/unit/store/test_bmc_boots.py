"""The journal of boots by BMCs: one entry of each host, authenticated."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import NotFound, Unavailable
from provision.store.bmc_boots import BmcBoot
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store

ONE = BmcBoot("n1", NOW, True, (), "uid=0")


def test_it_is_there_until_it_is_removed(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1), host(2)), ROOT)
        assert store.bmc_boots.all() == []
        store.bmc_boots.put(ONE)
        further = replace(ONE, steps=("link", "medium"))
        store.bmc_boots.put(replace(ONE, host="n2", was_off=False))
        store.bmc_boots.put(further)
        with pytest.raises(NotFound):
            store.bmc_boots.put(replace(ONE, host="n9"))
    with open_store(tmp_path) as again:
        again.accept()
        assert again.bmc_boots.all() == [further, replace(ONE, host="n2", was_off=False)]
        again.bmc_boots.remove("n1")
        again.bmc_boots.remove("n1")
        assert [boot.host for boot in again.bmc_boots.all()] == ["n2"] and again.database.recheck()
        again.hosts.apply(inventory(host(1)), ROOT)
        assert again.bmc_boots.all() == [] and again.database.recheck()


def test_what_somebody_else_wrote_is_not_done(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
        store.accept()
        store.bmc_boots.put(replace(ONE, steps=("window",)))
        connection = sqlite3.connect(tmp_path / "provision.db")
        with connection:
            connection.execute("UPDATE bmc_boots SET steps = 'power'")
        connection.close()
        with pytest.raises(Unavailable):
            store.bmc_boots.all()
