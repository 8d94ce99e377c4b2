"""The master key: where it is, and what is refused."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from provision.errors import Conflict, Unavailable
from provision.secret import Secret
from provision.store import keys
from provision.store.keys import MasterKey, Purpose, create_key, load_key
from provision.store.store import Store
from tests.helpers.store_samples import NOW, credential, open_store, raw


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
