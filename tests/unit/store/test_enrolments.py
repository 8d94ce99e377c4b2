"""Enrolment windows and imported fingerprints in the store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from provision.errors import Invalid, NotFound
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store, raw

SOON, LATER = NOW + timedelta(minutes=9, seconds=59), NOW + timedelta(minutes=10)
PRINT = "ab" * 32


def test_a_window_ends_by_itself_or_is_closed(store: Store, tmp_path: Path) -> None:
    opened = store.enrolments.open("n1", 10, NOW, ROOT)
    assert (opened.opened, opened.expires, opened.actor) == (NOW, LATER, ROOT.name)
    store.close()
    with open_store(tmp_path) as again:
        assert again.enrolments.window("n1", SOON) == opened and again.enrolments.window("n1", LATER) is None
        assert again.enrolments.window("n2", NOW) is None
        assert again.enrolments.open_at(SOON) == {"n1": opened} and again.enrolments.open_at(LATER) == {}
        later = again.enrolments.open("n1", 20, NOW, ROOT)
        assert again.enrolments.window("n1", LATER) == later
        assert again.enrolments.close("n1") and not again.enrolments.close("n1")
        assert again.enrolments.window("n1", NOW) is None and again.database.recheck()


def test_numbers_and_names_are_checked(store: Store) -> None:
    for minutes in (0, 10081):
        with pytest.raises(Invalid, match="1 to 10080"):
            store.enrolments.open("n1", minutes, NOW, ROOT)
    for call in (lambda: store.enrolments.open("n9", 1, NOW, ROOT), lambda: store.enrolments.close("n9")):
        with pytest.raises(NotFound):
            call()


def test_imported_fingerprints(store: Store, tmp_path: Path) -> None:
    store.enrolments.take({"n1": PRINT, "n2": "cd" * 32}, NOW, ROOT)
    store.enrolments.take({"n2": "ef" * 32}, NOW, ROOT)
    with pytest.raises(NotFound):
        store.enrolments.take({"n1": "00" * 32, "n9": PRINT}, NOW, ROOT)
    store.close()
    with open_store(tmp_path) as again:
        assert [again.enrolments.imported(name) for name in ("n1", "n2")] == [PRINT, "ef" * 32]
        again.enrolments.forget_import("n2")
        with pytest.raises(NotFound, match="no fingerprint was imported"):
            again.enrolments.forget_import("n2")
        assert again.database.recheck()
        again.hosts.apply(inventory(host(2)), ROOT)
        again.hosts.apply(inventory(host(1), host(2)), ROOT)
        assert again.enrolments.imported("n1") is None and again.database.recheck()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tpm_windows SET expires = '2036-01-01T00:00:00.000000Z'",
        f"UPDATE tpm_imports SET fingerprint = '{'cd' * 32}'",
        "DELETE FROM tpm_windows",
    ],
)
def test_whoever_accepts_a_database_lets_nobody_enrol(store: Store, tmp_path: Path, change: str) -> None:
    store.enrolments.open("n1", 10, NOW, ROOT)
    store.enrolments.take({"n1": PRINT}, NOW, ROOT)
    store.close()
    raw(tmp_path, change)
    with open_store(tmp_path) as again:
        assert again.database.distrust
        again.accept()
        assert again.enrolments.open_at(NOW) == {} and again.enrolments.imported("n1") is None
