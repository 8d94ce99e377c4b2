"""Credentials at rest: versions, listings, and rows that were altered."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from provision.errors import NotFound, Unavailable
from provision.secret import Secret
from provision.site import CredentialKind
from provision.store.credentials import CredentialInput
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, credential, host, inventory, open_store, raw, statements


def test_versions_only_increase(store: Store, tmp_path: Path) -> None:
    assert [store.credentials.set("n1", credential(b"%d" % i), NOW) for i in range(3)] == [1, 2, 3]
    store.credentials.remove("n1", "tls")
    assert store.credentials.infos("n1") == []
    store.close()
    with open_store(tmp_path) as again:
        assert again.credentials.set("n1", credential(b"4"), NOW) == 4
        assert again.credentials.open("n1", ["tls"])[0].secret == Secret(b"4")
        assert again.credentials.set("n2", credential(b"1"), NOW) == 1


def test_listing_shows_no_secret(store: Store) -> None:
    store.credentials.set("n2", credential(b"canary"), NOW)
    token = CredentialInput(
        "enrol", CredentialKind.TOKEN, "/etc/enrol", "0640", Secret(b"1234"), NOW + timedelta(days=1)
    )
    store.credentials.set("n1", token, NOW)
    first, second = store.credentials.infos()
    assert (first.host, first.name, first.version, first.mode, first.size) == ("n1", "enrol", 1, "0640", 4)
    assert first.not_after == NOW + timedelta(days=1) and first.created == NOW
    assert first.fingerprint == "", "a hash of a short token gives it away"
    assert len(second.fingerprint) == 64 and second.not_after is None
    assert store.credentials.infos("n2") == [second]
    assert "canary" not in repr(store.credentials.infos()) + repr(store.credentials.open("n2", ["tls"]))


def test_opened_in_the_order_asked_for(store: Store) -> None:
    store.credentials.set_all([("n1", credential(b"a", "a")), ("n1", credential(b"b", "b"))], NOW)
    opened = store.credentials.open("n1", ["b", "a"])
    assert [(c.name, c.path, c.mode, c.secret.reveal()) for c in opened] == [
        ("b", "/etc/b.key", "0600", b"b"),
        ("a", "/etc/a.key", "0600", b"a"),
    ]


def test_missing_ones_are_named(store: Store) -> None:
    with pytest.raises(NotFound, match=r"credential 'tls' of n1: has not been set; .*provision credential set n1 tls"):
        store.credentials.open("n1", ["tls"])
    with pytest.raises(NotFound, match="n9"):
        store.credentials.open("n9", ["tls"])
    with pytest.raises(NotFound):
        store.credentials.remove("n1", "tls")
    with pytest.raises(NotFound):
        store.credentials.set_all([("n1", credential(b"a")), ("n9", credential(b"a"))], NOW)
    assert store.credentials.infos() == [], "all of them or none"


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE credentials SET (nonce, ciphertext) ="
        " (SELECT nonce, ciphertext FROM credentials c WHERE c.host_id != credentials.host_id)",
        "UPDATE credentials SET version = version + 1",
        "UPDATE credentials SET mode = '0644'",
        "UPDATE credentials SET nonce = x''",
        "UPDATE credentials SET ciphertext = x'00'",
    ],
    ids=["swapped", "version", "mode", "no-nonce", "short"],
)
def test_altered_rows_do_not_open(store: Store, tmp_path: Path, sql: str) -> None:
    store.credentials.set("n1", credential(b"one"), NOW)
    store.credentials.set("n2", credential(b"two"), NOW)
    store.close()
    raw(tmp_path, sql)
    with open_store(tmp_path) as again:
        assert "holds rows that this program did not write" in again.database.distrust
        with pytest.raises(Unavailable, match=r"did not write.*provision store accept"):
            again.credentials.open("n1", ["tls"])
        # Believed by an operator's mistake, they do not open all the same.
        again.accept()
        with pytest.raises(Unavailable, match="credential 'tls' of n1: does not open"):
            again.credentials.open("n1", ["tls"])


def test_opening_asks_the_database_only_for_what_is_large(store: Store, tmp_path: Path) -> None:
    def opened(store: Store, name: str = "n1") -> tuple[bytes, int]:
        with statements() as seen:
            (found,) = store.credentials.open(name, ["tls"])
        return found.secret.reveal(), len(seen)

    store.credentials.set_all([("n1", credential(b"small")), ("n2", credential(b"x" * 32768))], NOW)
    assert opened(store) == (b"small", 0)
    store.credentials.set("n1", credential(b"newer"), NOW)
    assert opened(store) == (b"newer", 0)
    store.credentials.set("n1", credential(b"y" * 32768), NOW)
    assert opened(store)[0] == b"y" * 32768
    store.credentials.set("n1", credential(b"newest"), NOW)
    store.close()
    with open_store(tmp_path) as again:
        assert opened(again) == (b"newest", 0)
        assert opened(again, "n2")[0] == b"x" * 32768
        again.credentials.remove("n1", "tls")
        with pytest.raises(NotFound):
            again.credentials.open("n1", ["tls"])
        again.credentials.set("n1", credential(b"gone"), NOW)
        again.hosts.apply(inventory(host(2)), ROOT)
        again.hosts.apply(inventory(host(1), host(2)), ROOT)
        with pytest.raises(NotFound):
            again.credentials.open("n1", ["tls"])
        assert not again.credentials._sealed, "nothing is kept of a host that was removed"
