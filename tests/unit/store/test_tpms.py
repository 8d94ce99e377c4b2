"""TPMs in the store: one is enrolled, some wait, and a row of anybody else's is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from provision.enrolled_tpm import KeyKind
from provision.errors import Conflict, NotFound, Unavailable
from provision.store.store import Store
from provision.store.tpms import MOST_PENDING
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store, raw
from tests.helpers.tpm_samples import tpm


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        opened.accept()
        opened.hosts.apply(inventory(host(1), host(2)), ROOT)
        yield opened


def test_it_is_there_until_it_is_removed(store: Store, tmp_path: Path) -> None:
    one = tpm(kind=KeyKind.P256, known="certificate CN=x / CN=y")
    store.tpms.put(one)
    assert store.tpms.get("n1") == one and store.tpms.get("n2") is None
    store.close()
    with open_store(tmp_path) as again:
        assert again.tpms.get("n1") == one and again.tpms.all() == (one,)
        again.tpms.remove("n1")
        assert again.tpms.get("n1") is None and again.tpms.all() == ()
        with pytest.raises(NotFound, match="provision enroll n1"):
            again.tpms.remove("n1")
        assert not again.database.distrust and again.database.recheck()


def test_by_which_certificate_it_was_started_stays_with_it(store: Store, tmp_path: Path) -> None:
    first, second = tpm(known="", loader="ab" * 32), tpm(number=2, known="", loader="cd" * 32)
    for one in (first, second, tpm(number=3, known="")):
        store.tpms.put(one)
    store.tpms.reject("n1", first.fingerprint)
    assert [one.loader for one in store.tpms.pending("n1")] == ["cd" * 32, ""]
    store.tpms.put(replace(second, known="accepted uid=0"))
    store.close()
    with open_store(tmp_path) as again:
        assert again.tpms.all() == (replace(second, known="accepted uid=0"),)
        again.tpms.remove("n1")
        again.tpms.put(tpm())
        assert again.tpms.all() == (tpm(),) and again.database.recheck()


def test_how_often_it_was_started_only_rises_until_another_is_enrolled(store: Store, tmp_path: Path) -> None:
    store.tpms.put(tpm())
    assert store.tpms.start("n1") is None
    for start in ((0, 0), (3, 2), (3, 2), (3, 5), (4, 0)):
        store.tpms.rise("n1", start)
        assert store.tpms.start("n1") == start
    store.close()
    with open_store(tmp_path) as again:
        assert again.tpms.start("n1") == (4, 0) and not again.database.distrust
        for start in ((3, 9), (0, 0)):
            with pytest.raises(Conflict, match="after 4 and 0; if somebody has cleared it"):
                again.tpms.rise("n1", start)
        with pytest.raises(NotFound):
            again.tpms.rise("n9", (1, 0))
        assert again.tpms.start("n1") == (4, 0) and again.tpms.start("n2") is None
        again.tpms.remove("n1")
        assert again.tpms.start("n1") is None and again.database.recheck()
        again.tpms.put(tpm())
        again.tpms.rise("n1", (1, 0))
        assert again.tpms.start("n1") == (1, 0)
        again.hosts.apply(inventory(host(2)), ROOT)
        assert again.database.recheck()


def test_what_it_has_opened_only_rises_until_another_is_enrolled(store: Store, tmp_path: Path) -> None:
    store.tpms.put(tpm())
    assert store.tpms.opened("n1") == 0
    for number, known in ((0, 0), (7, 7), (5, 7), (9, 9)):
        store.tpms.has_opened("n1", number)
        assert store.tpms.opened("n1") == known
    store.close()
    with open_store(tmp_path) as again:
        assert (again.tpms.opened("n1"), again.tpms.opened("n2")) == (9, 0) and not again.database.distrust
        with pytest.raises(NotFound):
            again.tpms.has_opened("n9", 1)
        again.tpms.remove("n1")
        assert again.tpms.opened("n1") == 0 and again.database.recheck()
        again.tpms.put(tpm())
        again.tpms.has_opened("n1", 3)
        again.hosts.apply(inventory(host(2)), ROOT)
        assert again.tpms.opened("n1") == 0 and again.database.recheck()


@pytest.mark.parametrize("change", ["UPDATE tpm_starts SET resets = 1", "UPDATE tpm_openings SET number = 1"])
def test_what_a_tpm_has_done_is_believed_of_nobody_else(store: Store, tmp_path: Path, change: str) -> None:
    store.tpms.put(tpm())
    store.tpms.rise("n1", (4, 0))
    store.tpms.has_opened("n1", 4)
    store.close()
    raw(tmp_path, change)
    with open_store(tmp_path) as again:
        assert again.database.distrust


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE tpm_loaders SET certificate = '{'ef' * 32}'",
        "DELETE FROM tpm_loaders",
        f"INSERT INTO tpm_loaders SELECT host_id, '{2:064x}', certificate FROM tpm_loaders",
    ],
)
def test_a_certificate_that_somebody_else_has_written_is_not_believed(
    store: Store, tmp_path: Path, change: str
) -> None:
    one, other = tpm(known="", loader="ab" * 32), tpm(number=2, known="")
    store.tpms.put(one)
    store.tpms.put(other)
    store.close()
    raw(tmp_path, change)
    with open_store(tmp_path) as again:
        assert again.database.distrust
        again.accept()
        left = again.tpms.all()
        assert len(left) == 1 and left[0] in (one, other), (
            "the one that was changed is gone, and the other is as it was"
        )


def test_one_that_is_enrolled_is_not_replaced(store: Store) -> None:
    store.tpms.put(tpm())
    for other in (tpm(number=2), tpm(number=2, known=""), tpm(), tpm(known="")):
        with pytest.raises(Conflict, match="provision tpm remove n1"):
            store.tpms.put(other)
    assert store.tpms.all() == (tpm(),) and store.database.recheck()


def test_a_tpm_is_in_one_host(store: Store) -> None:
    store.tpms.put(tpm("n1", known=""))
    store.tpms.put(tpm("n2"))
    with pytest.raises(Conflict, match="that of n2"):
        store.tpms.put(tpm("n1"))


def test_some_wait_and_one_of_them_ends_that(store: Store) -> None:
    waiting = [tpm(number=n, known="", at=NOW + timedelta(seconds=n)) for n in range(MOST_PENDING)]
    for one in reversed(waiting):
        store.tpms.put(one)
    assert store.tpms.pending("n1") == tuple(waiting) and store.tpms.get("n1") is None
    with pytest.raises(Conflict, match="4 wait"):
        store.tpms.put(tpm(number=9, known=""))
    again = replace(waiting[1], firmware="other", at=NOW + timedelta(minutes=1))
    store.tpms.put(again)
    assert len(store.tpms.pending("n1")) == MOST_PENDING and store.tpms.pending("n1")[-1] == again
    store.tpms.reject("n1", waiting[2].fingerprint)
    with pytest.raises(NotFound):
        store.tpms.reject("n1", waiting[2].fingerprint)
    assert store.database.recheck()
    store.tpms.put(replace(waiting[3], known="accepted uid=0"))
    assert store.tpms.pending("n1") == () and store.tpms.all() == (replace(waiting[3], known="accepted uid=0"),)
    with pytest.raises(NotFound):
        store.tpms.reject("n1", waiting[3].fingerprint)
    assert store.database.recheck()


def test_hosts_have_their_own(store: Store) -> None:
    store.tpms.put(tpm("n1"))
    with pytest.raises(NotFound):
        store.tpms.put(tpm("n9", 9))
    store.hosts.apply(inventory(host(2)), ROOT)
    assert store.tpms.all() == ()
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    assert store.tpms.get("n1") is None and store.database.recheck()


CHANGES = (
    "UPDATE tpms SET key = x'00'",
    "UPDATE tpms SET kind = 'p256'",
    f"UPDATE tpms SET fingerprint = '{2:064x}'",
    "UPDATE tpms SET known = 'imported', actor = 'x'",
    "UPDATE tpms SET attestation = x'00'",
    "UPDATE tpms SET pcr7 = x'00'",
    "UPDATE tpms SET firmware = 'x'",
    "UPDATE tpms SET at = '2036-01-01T00:00:00.000000Z'",
    "UPDATE tpms SET host_id = (SELECT id FROM hosts WHERE name = 'n2')",
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_of_somebody_else_is_believed_by_nobody(store: Store, tmp_path: Path, change: str) -> None:
    store.tpms.put(tpm(known=""))
    store.close()
    raw(tmp_path, change)
    with open_store(tmp_path) as again:
        assert again.database.distrust
        with pytest.raises(Unavailable):
            again.tpms.put(tpm("n2", 2))
        # Nor by whoever accepts the database as it is.
        again.accept()
        assert again.tpms.all() == ()
        if "known" in change:
            with pytest.raises(Conflict, match="provision tpm remove n1"):
                again.tpms.put(tpm())
            again.tpms.remove("n1")
        again.tpms.put(tpm())
        assert again.tpms.get("n1") == tpm() and again.database.recheck()


def test_whoever_accepts_a_database_keeps_what_the_program_wrote(store: Store) -> None:
    store.tpms.put(tpm())
    store.accept()
    assert store.tpms.get("n1") == tpm()


def test_a_row_that_changes_meanwhile_is_noticed(store: Store, tmp_path: Path) -> None:
    store.tpms.put(tpm(known=""))
    raw(tmp_path, CHANGES[0])
    with pytest.raises(Unavailable):
        store.tpms.put(tpm(number=2))
    with pytest.raises(Unavailable):
        store.tpms.reject("n1", tpm().fingerprint)
