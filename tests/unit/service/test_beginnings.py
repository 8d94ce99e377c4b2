"""Boots of one moment begin in one transaction; what is written is written before anybody is answered."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from provision.boot import Boot, Medium
from provision.errors import NotFound, Unavailable
from provision.service.beginnings import Beginnings
from provision.store.boots import Start
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, mac, open_store

HOSTS = 50


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        opened.hosts.apply(inventory(*(host(number) for number in range(HOSTS))), ROOT)
        yield opened


@pytest.fixture
def commits(store: Store) -> Iterator[list[None]]:
    """One for each transaction that writes."""
    seen: list[None] = []

    def note(connection: Any) -> None:
        if connection.get_execution_options().get("provision_write"):
            seen.append(None)

    event.listen(Engine, "commit", note)
    yield seen
    event.remove(Engine, "commit", note)


def start(number: int, revision: str = "r") -> Start:
    return Start(f"n{number}", mac(number), Medium.PXE, "mgmt", NOW, revision)


def begin(store: Store, *starts: Start) -> list[Boot | BaseException]:
    """What becomes of requests that come at one moment."""

    async def all_of_them() -> list[Boot | BaseException]:
        beginnings = Beginnings(store)
        return await asyncio.gather(*(beginnings.begin(one) for one in starts), return_exceptions=True)

    return asyncio.run(all_of_them())


def test_one_transaction_for_all(store: Store, commits: list[None], tmp_path: Path) -> None:
    boots = begin(store, *(start(number) for number in range(HOSTS)))
    assert len(commits) == 1
    whose = [(boot.host, boot.mac) for boot in boots if isinstance(boot, Boot)]
    assert whose == [(f"n{number}", mac(number)) for number in range(HOSTS)]
    with closing(sqlite3.connect(tmp_path / "provision.db")) as other:
        assert other.execute("SELECT count(*) FROM boots").fetchone() == (HOSTS,)
    assert store.database.recheck() and store.boots.of("n7") == [boots[7]]


def test_who_comes_a_moment_later_is_waited_for(store: Store, commits: list[None]) -> None:
    async def ask() -> list[Boot]:
        beginnings, asked = Beginnings(store), list[asyncio.Task[Boot]]()
        for number in range(5):
            asked.append(asyncio.create_task(beginnings.begin(start(number))))
            await asyncio.sleep(0)  # a turn of the loop, as between two requests
        return list(await asyncio.gather(*asked))

    assert [boot.host for boot in asyncio.run(ask())] == [f"n{number}" for number in range(5)]
    assert len(commits) == 1


def test_a_nic_that_asks_twice_is_in_one_boot(store: Store, commits: list[None]) -> None:
    first, other, again = begin(store, start(1), start(2), start(1))
    assert first == again != other
    assert begin(store, start(1)) == [first] and len(commits) == 1, "a running boot needs no write"


def test_a_host_that_changes_in_between_is_in_two_boots(store: Store) -> None:
    old, new = begin(store, start(1, "old"), start(1, "new"))
    assert isinstance(old, Boot) and isinstance(new, Boot) and old.id < new.id
    assert begin(store, start(1, "new")) == [new]
    assert store.database.recheck() and store.boots.of("n1") == [new, old]


def test_a_host_that_is_gone_is_no_harm_to_the_others(store: Store) -> None:
    gone, here = begin(store, start(HOSTS + 1), start(1))
    assert isinstance(gone, NotFound) and isinstance(here, Boot)
    assert store.database.recheck()


@pytest.mark.parametrize("error", [Unavailable("x", "cannot be written", "y"), RuntimeError("nobody foresaw it")])
def test_what_cannot_be_written_has_begun_for_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store.database, "write", broken)
        assert begin(store, start(1), start(2)) == [error, error]
    assert store.boots.of("n1") == []
    (boot,) = begin(store, start(1))
    assert isinstance(boot, Boot) and store.boots.of("n1") == [boot]


def test_a_row_that_fails_undoes_the_others(store: Store, tmp_path: Path) -> None:
    """The transaction is whole or not at all, in memory too."""
    with closing(sqlite3.connect(tmp_path / "provision.db")) as other:
        refuse = "BEGIN SELECT raise(ABORT, 'no') WHERE new.mac = '%s'; END"
        other.execute(f"CREATE TRIGGER no BEFORE INSERT ON boots {refuse % mac(2)}")
    assert {type(found) for found in begin(store, start(1), start(2), start(3))} == {Unavailable}
    assert [store.boots.of(f"n{number}") for number in (1, 2, 3)] == [[], [], []] and store.database.recheck()


def test_the_loop_goes_on_while_somebody_writes(store: Store) -> None:
    has, may_end, went_on = threading.Event(), threading.Event(), list[bool]()

    def write() -> None:
        with store.database.lock:
            has.set()
            went_on.append(may_end.wait(5))

    async def ask() -> list[Boot]:
        beginnings = Beginnings(store)
        asked = asyncio.gather(beginnings.begin(start(1)), beginnings.begin(start(2)))
        while not beginnings._writing:
            await asyncio.sleep(0)
        may_end.set()
        return list(await asked)

    writer = threading.Thread(target=write)
    writer.start()
    assert has.wait(5)
    boots = asyncio.run(ask())
    writer.join()
    assert went_on == [True] and [boot.host for boot in boots] == ["n1", "n2"]


def test_who_leaves_takes_nobody_along(store: Store) -> None:
    async def ask() -> list[Boot | BaseException]:
        beginnings = Beginnings(store)
        asked = [asyncio.create_task(beginnings.begin(start(number))) for number in (1, 2)]
        await asyncio.sleep(0)
        asked[0].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    left, stayed = asyncio.run(ask())
    assert isinstance(left, asyncio.CancelledError) and isinstance(stayed, Boot)
