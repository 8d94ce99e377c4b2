"""Links at rest: as many uses as were allowed, however many ask at once, and nothing of their secrets."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provision import link as secret_links
from provision.boot import LINK_IDLE, Link, Medium
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.secret import Secret
from provision.store.links import Wanted
from provision.store.rows import HISTORY
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store
from tests.helpers.stored_site import raw

MINUTE = timedelta(minutes=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path)
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    return store


def make(store: Store, name: str = "n1", secret: Secret | None = None, now: Any = NOW, **fields: Any) -> Link:
    usual: dict[str, Any] = {
        "medium": Medium.ISO,
        "identity": "i",
        "seed_revision": "s",
        "copy": "c" * 32,
        "minutes": 60,
        "uses": 1,
    }
    return store.links.make(name, secret or secret_links.new(), Wanted(**usual | fields), now, ROOT)


def test_a_link_is_found_by_its_secret_alone(store: Store, tmp_path: Path) -> None:
    secret = secret_links.new()
    made = make(store, secret=secret)
    assert store.links.find(secret) == made == store.links.get(made.id)
    assert (made.host, made.medium, made.expires, made.actor, made.taken) == (
        "n1",
        Medium.ISO,
        NOW + 60 * MINUTE,
        "uid=0",
        (),
    )
    assert made.id == store.links.id_of(secret)
    assert store.links.find(secret_links.new()) is None
    store.close()
    for path in tmp_path.iterdir():
        assert secret.reveal() not in path.read_bytes(), path
    with open_store(tmp_path) as again:
        assert again.links.find(secret) == made and again.links.all() == [made]


def test_links_have_limits(store: Store) -> None:
    limits: tuple[dict[str, Any], ...] = ({"minutes": 0}, {"minutes": 10081}, {"uses": 0}, {"uses": 101})
    for fields in limits:
        with pytest.raises(Invalid):
            make(store, **fields)
    with pytest.raises(NotFound):
        make(store, "n9")
    assert store.links.all() == []


def test_a_use_is_one_peers_until_it_stays_away(store: Store, tmp_path: Path) -> None:
    made = make(store)
    used = store.links.use(made, "10.0.0.7", NOW)
    assert used is not None and [use.peer for use in used.taken] == ["10.0.0.7"]
    assert store.links.use(made, "10.0.0.8", NOW) is None
    later = NOW + LINK_IDLE - MINUTE
    again = store.links.use(made, "10.0.0.7", later)
    assert again is not None and len(again.taken) == 1 and again.taken[0].seen == later
    store.close()
    with open_store(tmp_path) as opened:
        assert opened.links.get(made.id) == again, "a restart ends no use"
        assert opened.links.use(made, "10.0.0.7", later + LINK_IDLE) is None
        assert opened.links.use(made, "10.0.0.8", later + LINK_IDLE) is None


def test_a_use_survives_the_end_of_its_process(store: Store, tmp_path: Path) -> None:
    """What is not closed has been killed: the database is looked at as it lies there."""
    made = make(store, uses=2)
    assert store.links.use(made, "10.0.0.7", NOW)
    with open_store(tmp_path) as again:
        link = again.links.get(made.id)
        assert link is not None and [use.peer for use in link.taken] == ["10.0.0.7"]


def test_several_uses_are_several_peers(store: Store) -> None:
    made = make(store, uses=2)
    assert store.links.use(made, "a", NOW) and store.links.use(made, "b", NOW)
    assert store.links.use(made, "c", NOW) is None
    assert store.links.use(made, "a", NOW + MINUTE) and store.links.use(made, "b", NOW + MINUTE)


def test_fifty_threads_one_use(store: Store) -> None:
    made, won = make(store), list[str]()
    barrier = threading.Barrier(50)

    def ask(peer: str) -> None:
        barrier.wait()
        if store.links.use(made, peer, NOW) is not None:
            won.append(peer)

    threads = [threading.Thread(target=ask, args=(f"10.0.0.{number}",)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    link = store.links.get(made.id)
    assert link is not None and [use.peer for use in link.taken] == won and len(won) == 1


def test_what_is_revoked_stays_so(store: Store, tmp_path: Path) -> None:
    first, second, third = make(store), make(store), make(store, "n2")
    store.links.revoke(first.id)
    store.links.revoke("0" * 12)
    assert [link.revoked for link in store.links.all()] == [False, False, True]
    assert store.links.use(first, "a", NOW) is None and store.links.use(second, "a", NOW)
    store.links.revoke_all()
    assert store.links.use(second, "a", NOW) is None and store.links.use(third, "a", NOW) is None
    store.close()
    with open_store(tmp_path) as again:
        assert all(link.revoked for link in again.links.all())


def test_links_go_with_their_host(store: Store, tmp_path: Path) -> None:
    secret = secret_links.new()
    make(store, secret=secret)
    kept = make(store, "n2")
    store.hosts.apply(inventory(host(2)), ROOT)
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    assert store.links.find(secret) is None and store.links.all() == [kept]
    store.close()
    with open_store(tmp_path) as again:
        assert again.links.all() == [kept] and again.database.distrust == ""


def test_a_host_has_so_many_and_the_oldest_that_has_ended_goes(store: Store) -> None:
    made = [make(store) for _ in range(HISTORY)]
    with pytest.raises(Conflict):
        make(store)
    assert make(store, "n2")
    store.links.revoke(made[3].id)
    store.links.revoke(made[5].id)
    newest = make(store)
    ids = [link.id for link in store.links.all() if link.host == "n1"]
    assert len(ids) == HISTORY and ids[0] == newest.id and made[3].id not in ids and made[5].id in ids
    assert store.database.recheck()


def test_rows_of_somebody_elses_are_not_believed(store: Store, tmp_path: Path) -> None:
    made = make(store)
    assert store.links.use(made, "a", NOW)
    with raw(tmp_path) as connection:
        connection.execute("UPDATE links SET taken = '[]'")
    with pytest.raises(Unavailable):
        store.links.revoke(made.id)
    assert store.database.distrust
    store.close()
    with open_store(tmp_path) as again:
        assert again.database.distrust
        again.accept()
        assert [link.revoked for link in again.links.all()] == [True], "what was accepted as it was found opens nothing"
