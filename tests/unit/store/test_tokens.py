"""Tokens in the store: found by the token only, authenticated, and gone when they are revoked."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from provision import token
from provision.errors import Conflict, NotFound, Unavailable
from provision.principal import PrincipalRole
from provision.store import tokens
from provision.store.keys import create_key, load_key
from provision.store.store import Store
from provision.token import Token
from tests.helpers.site_fixture import NOW

ONE = Token("rack7", PrincipalRole.OPERATOR, (("rack", "7"),), NOW, token.expiry(30, NOW), "uid=0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, create_key(tmp_path)) as opened:
        opened.accept()
        yield opened


def again(state: Path) -> Store:
    return Store.open(state, load_key(state))


def execute(state: Path, statement: str) -> None:
    connection = sqlite3.connect(state / "provision.db")
    with connection:
        connection.execute(statement)
    connection.close()


def test_it_is_found_by_itself_also_later(store: Store, tmp_path: Path) -> None:
    secret = token.new()
    store.tokens.add(secret, ONE)
    assert store.tokens.find(secret) == ONE and store.tokens.find(token.new()) is None
    store.tokens.used(ONE, NOW + timedelta(hours=1))
    store.close()
    with again(tmp_path) as opened:
        assert opened.tokens.find(secret) == ONE
        assert opened.tokens.all() == [(ONE, NOW + timedelta(hours=1))]


def test_neither_it_nor_a_plain_hash_of_it_is_on_the_disk(store: Store, tmp_path: Path) -> None:
    secret = token.new()
    store.tokens.add(secret, ONE)
    store.close()
    plain = secret.reveal()
    forms = (plain, plain[10:], hashlib.sha256(plain).hexdigest().encode(), hashlib.sha256(plain).digest())
    files = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert b"rack7" in b"".join(files)
    assert not any(form in content for form in forms for content in files)


def test_names_are_taken_once_and_given_back(store: Store) -> None:
    first, second = token.new(), token.new()
    store.tokens.add(first, ONE)
    with pytest.raises(Conflict, match="there is a token of this name"):
        store.tokens.add(second, ONE)
    store.tokens.used(ONE, NOW)
    store.tokens.remove("rack7")
    assert store.tokens.find(first) is None and store.tokens.all() == []
    with pytest.raises(NotFound, match="provision token list"):
        store.tokens.remove("rack7")
    store.tokens.add(second, ONE)
    assert store.tokens.find(second) == ONE and store.tokens.all() == [(ONE, None)]


def test_there_are_not_too_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST", 3)
    for name in "abc":
        store.tokens.add(token.new(), replace(ONE, name=name))
    with pytest.raises(Conflict, match="there are 3 already"):
        store.tokens.add(token.new(), replace(ONE, name="d"))
    assert [known.name for known, _ in store.tokens.all()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tokens SET role = 'admin'",
        "UPDATE tokens SET selector = '{}'",
        "UPDATE tokens SET expires = '2030-01-01T00:00:00.000000Z'",
        "UPDATE tokens SET digest = 'aa'",
        "DELETE FROM tokens",
        "INSERT INTO tokens SELECT 'x', 'aa', 'admin', '{}', created, expires, actor FROM tokens",
    ],
)
def test_a_row_that_somebody_else_wrote_is_not_believed(store: Store, tmp_path: Path, change: str) -> None:
    store.tokens.add(token.new(), ONE)
    store.close()
    execute(tmp_path, change)
    with again(tmp_path) as opened:
        assert opened.database.distrust


def test_when_it_was_used_may_be_anything(store: Store, tmp_path: Path) -> None:
    store.tokens.add(token.new(), ONE)
    store.tokens.used(ONE, NOW)
    store.close()
    execute(tmp_path, "DELETE FROM token_uses")
    with again(tmp_path) as opened:
        assert opened.tokens.all() == [(ONE, None)]


def test_whoever_accepts_a_database_accepts_no_token_in_it(store: Store, tmp_path: Path) -> None:
    secret = token.new()
    store.tokens.add(secret, ONE)
    store.tokens.used(ONE, NOW)
    store.accept()
    assert store.tokens.find(secret) is None and store.tokens.all() == []
    store.close()
    with again(tmp_path) as opened:
        assert opened.tokens.all() == []


def test_a_disk_that_is_full_keeps_nobody_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = token.new()
    store.tokens.add(secret, ONE)
    store.tokens.used(ONE, NOW)

    def full(durable: bool = True) -> None:
        raise Unavailable("provision.db", "cannot be written", "make room")

    with monkeypatch.context() as patched:
        patched.setattr(store.database, "write", full)
        store.tokens.flush(at_once=True)
    assert store.tokens.find(secret) == ONE and store.tokens.all() == [(ONE, NOW)]
    store.tokens.flush(at_once=True)
    with store.database.read() as tx:
        assert tx.connection.exec_driver_sql("SELECT count(*) FROM token_uses").scalar() == 1
