"""Credentials sealed at rest, and the key that seals them."""

from __future__ import annotations

import os
import pwd
import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from provision.errors import Conflict, NotFound, Unavailable
from provision.secret import Secret
from provision.site import CredentialKind
from provision.store import keys
from provision.store.credentials import CredentialInput
from provision.store.keys import MasterKey, Purpose, create_key, load_key
from provision.store.seal import Place, seal, unseal
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, credential, host, inventory, open_store, statements

KEY = Secret(bytes(range(32)))
PLACE = Place("id-1", "n1", "tls", 3, "key", "/etc/tls.key", "0600")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path)
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    return store


def raw(state: Path, sql: str) -> None:
    connection = sqlite3.connect(state / "provision.db")
    connection.execute(sql)
    connection.commit()
    connection.close()


def test_seal_and_open() -> None:
    first, second = seal(KEY, PLACE, Secret(b"canary")), seal(KEY, PLACE, Secret(b"canary"))
    assert first.nonce != second.nonce and b"canary" not in first.ciphertext
    assert len(first.nonce) == 12 and len(first.ciphertext) == len(b"canary") + 16
    assert unseal(KEY, PLACE, first) == Secret(b"canary")


@pytest.mark.parametrize(
    "other",
    [
        Place("id-2", "n1", "tls", 3, "key", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls2", 3, "key", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls", 4, "key", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls", 3, "file", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls", 3, "key", "/etc/motd", "0600"),
        Place("id-1", "n1", "tls", 3, "key", "/etc/tls.key", "0644"),
    ],
    ids=["host", "name", "version", "kind", "path", "mode"],
)
def test_opens_in_its_own_place_only(other: Place) -> None:
    with pytest.raises(Unavailable, match=r"credential 'tls2?' of n1: does not open"):
        unseal(KEY, other, seal(KEY, PLACE, Secret(b"canary")))


def test_opens_with_its_own_key_only() -> None:
    with pytest.raises(Unavailable):
        unseal(Secret(bytes(32)), PLACE, seal(KEY, PLACE, Secret(b"canary")))


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


# The master key


def test_key_file(tmp_path: Path) -> None:
    made = create_key(tmp_path)
    path = tmp_path / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(path.read_text()) == 65
    loaded = load_key(tmp_path, {})
    assert all(loaded.subkey(p) == made.subkey(p) for p in Purpose)
    assert len({loaded.subkey(p).reveal() for p in Purpose}) == len(Purpose)
    assert path.read_text().strip() not in repr(vars(loaded))
    content = path.read_bytes()
    with pytest.raises(Conflict):
        create_key(tmp_path)
    assert path.read_bytes() == content


def test_systemd_credential_comes_first(tmp_path: Path) -> None:
    create_key(tmp_path)
    directory = tmp_path / "credentials"
    directory.mkdir()
    assert load_key(tmp_path, {"CREDENTIALS_DIRECTORY": str(directory)}).subkey(Purpose.SEALING)
    theirs = directory / "provision-key"
    theirs.write_text("ab" * 32)
    theirs.chmod(0o440)
    chosen = load_key(tmp_path, {"CREDENTIALS_DIRECTORY": str(directory)})
    assert chosen.subkey(Purpose.SEALING) == MasterKey(Secret(b"\xab" * 32)).subkey(Purpose.SEALING)
    theirs.chmod(0o444)
    with pytest.raises(Unavailable, match="others may read"):
        load_key(tmp_path, {"CREDENTIALS_DIRECTORY": str(directory)})


_MALFORMED = {
    "empty": b"",
    "short": b"fe" * 31,
    "long": b"fe" * 33,
    "letters": b"xy" * 32,
    "two-lines": b"fe" * 32 + b"\n\n",
    "raw": bytes(range(200, 232)),
}


@pytest.mark.parametrize("content", _MALFORMED.values(), ids=_MALFORMED.keys())
def test_malformed_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Unavailable, match="32 bytes in hex") as caught:
        load_key(tmp_path, {})
    assert path.read_bytes() == content
    assert "fefe" not in str(caught.value)


def test_exposed_key(tmp_path: Path) -> None:
    create_key(tmp_path)
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(Unavailable, match=r"mode 0640.*chmod 600"):
        load_key(tmp_path, {})


def test_key_of_another_user(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "this test needs root to give a file away"
    create_key(tmp_path)
    os.chown(tmp_path / "key", 12345, -1)
    with pytest.raises(Unavailable, match="belongs to user id 12345"):
        load_key(tmp_path, {})


def test_the_way_out_never_takes_the_key_from_its_directorys_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.geteuid() == 0, "this test needs root to give files away"
    nobody = pwd.getpwnam("nobody")
    create_key(tmp_path)
    for path in (tmp_path, tmp_path / "key"):
        os.chown(path, nobody.pw_uid, -1)
    with pytest.raises(Unavailable, match=r"run it as its owner; root does so by 'runuser -u nobody -- provision"):
        load_key(tmp_path, {})
    os.chown(tmp_path / "key", 0, -1)
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(keys, "_open", lambda path, flags: (_ for _ in ()).throw(refused))
    with pytest.raises(Unavailable, match=r"Permission denied\); let root run 'chown --reference=\S+ \S+/key'"):
        load_key(tmp_path, {})


def test_key_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to("/dev/zero")
    with pytest.raises(Unavailable):
        load_key(tmp_path, {})


def test_key_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(Unavailable, match=r"/key: the master key cannot be read \(Is a directory\); restore"):
        load_key(tmp_path, {})


def test_missing_key(store: Store, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "key").unlink()
    before = (tmp_path / "provision.db").read_bytes()
    with pytest.raises(Unavailable, match=r"key is missing.*restore"):
        load_key(tmp_path, {})
    with pytest.raises(Conflict, match="sealed with another key"):
        create_key(tmp_path)
    assert not (tmp_path / "key").exists() and (tmp_path / "provision.db").read_bytes() == before
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Unavailable, match="provision init"):
        load_key(empty, {})


def test_another_key_destroys_nothing(store: Store, tmp_path: Path) -> None:
    store.credentials.set("n1", credential(b"canary"), NOW)
    store.close()
    before = (tmp_path / "provision.db").read_bytes()
    with pytest.raises(Unavailable, match="another master key"):
        Store.open(tmp_path, MasterKey(Secret(bytes(32))))
    assert (tmp_path / "provision.db").read_bytes() == before
    with open_store(tmp_path) as again:
        assert again.credentials.open("n1", ["tls"])[0].secret == Secret(b"canary")


def test_a_lost_check_value_is_no_way_in(store: Store, tmp_path: Path) -> None:
    store.credentials.set("n1", credential(b"canary"), NOW)
    store.close()
    raw(tmp_path, "DELETE FROM meta WHERE name = 'key-check'")
    with pytest.raises(Unavailable, match="another master key"):
        Store.open(tmp_path, MasterKey(Secret(bytes(32))))
