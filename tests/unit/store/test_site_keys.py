"""The site's keys are sealed, used in the order in which they were made, and believed when they are this store's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from provision import key_pairs
from provision.errors import Conflict, NotFound
from provision.site_key import KeyUse, SiteKey
from provision.store.keys import MasterKey, create_key
from provision.store.site_keys import MOST
from provision.store.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def key(tmp_path: Path) -> MasterKey:
    return create_key(tmp_path)


@pytest.fixture
def store(tmp_path: Path, key: MasterKey) -> Iterator[Store]:
    with Store.open(tmp_path, key) as opened:
        yield opened


def add(store: Store, use: KeyUse = KeyUse.SIGNING) -> SiteKey:
    public, private = key_pairs.new_signing() if use is KeyUse.SIGNING else key_pairs.new_approval()
    return store.site_keys.add(use, public, private, NOW, "uid=0")


def test_the_private_half_opens_and_is_nowhere_in_clear(store: Store, tmp_path: Path) -> None:
    made = add(store)
    secret = store.site_keys.open(made)
    assert key_pairs.signing_key(secret).public_key().public_bytes_raw() == made.public
    approving = add(store, KeyUse.APPROVAL)
    opened = key_pairs.approval_key(store.site_keys.open(approving))
    assert opened.public_key() == key_pairs.approval_public(approving.public)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("provision.db*"))
    assert made.public in stored and secret.reveal() not in stored
    assert secret.reveal().hex() not in repr(made) + repr(secret)


def test_the_oldest_is_first_and_numbers_never_come_back(tmp_path: Path, key: MasterKey) -> None:
    with Store.open(tmp_path, key) as store:
        first, second, other = add(store), add(store), add(store, KeyUse.APPROVAL)
        assert store.site_keys.of(KeyUse.SIGNING) == [first, second]
        assert store.site_keys.all() == [first, second, other]
        store.site_keys.remove(other.number)
        assert add(store, KeyUse.APPROVAL).number > other.number
        with pytest.raises(NotFound):
            store.site_keys.open(other)
    with Store.open(tmp_path, key) as again:
        assert again.site_keys.of(KeyUse.SIGNING) == [first, second]
        assert not again.database.distrust
        again.site_keys.remove(first.number)
        assert again.site_keys.of(KeyUse.SIGNING) == [second]
        with pytest.raises(NotFound):
            again.site_keys.get(first.number)


def test_there_are_not_more_than_hosts_can_know(store: Store) -> None:
    for _ in range(MOST):
        add(store)
    with pytest.raises(Conflict, match="there are 8 already"):
        add(store)


def test_a_key_without_its_private_half_does_not_sign(store: Store) -> None:
    elsewhere = store.site_keys.add(KeyUse.SECURE_BOOT, b"certificate", None, NOW, "uid=0")
    assert not elsewhere.sealed
    with pytest.raises(Conflict, match="its private half is not on this server"):
        store.site_keys.open(elsewhere)


@pytest.mark.parametrize("strange", [None, b"another key's"])
def test_no_key_that_was_put_into_the_database_is_believed(
    tmp_path: Path, key: MasterKey, strange: bytes | None
) -> None:
    with Store.open(tmp_path, key) as store:
        mine = add(store)
    with closing(sqlite3.connect(tmp_path / "provision.db")) as database, database:
        nonce = None if strange is None else b"n" * 12
        values = ("signing", b"p" * 32, nonce, strange, "2026-03-01T12:00:00.000000Z", "uid=0")
        database.execute(
            'INSERT INTO site_keys ("use", public, nonce, ciphertext, created, actor) VALUES (?,?,?,?,?,?)', values
        )
    with Store.open(tmp_path, key) as store:
        assert store.database.distrust
        store.accept()
        assert store.site_keys.of(KeyUse.SIGNING) == [mine]
