"""The CA's directory: private, whole, and renewed by the roots that are there."""

from __future__ import annotations

import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from provision import clock
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.tls import context, files
from provision.tls.authority import Kind, Names, names_of
from tests.helpers.certificates import NAMES

NOW = clock.now()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    files.create(tmp_path, NAMES, NOW)
    return tmp_path


def pairs(state: Path) -> list[tuple[Path, Path]]:
    chains = (files.CHAINS[kind] for kind in Kind)
    return [(state / "tls" / chain.certificate, state / "tls" / chain.key) for chain in chains]


def test_nobody_else_reads_what_is_made(state: Path) -> None:
    directory = state / "tls"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert len(list(directory.iterdir())) == 8


def test_the_server_takes_both_pairs(state: Path) -> None:
    assert context.load(pairs(state)).expires < NOW + timedelta(days=825)


def test_renewing_keeps_the_roots_and_changes_names_and_keys(state: Path) -> None:
    before = {kind: files.read(state, kind) for kind in Kind}
    assert files.renew(state, None, NOW) == NAMES
    other = Names(("new.example.test",), (ip_address("192.0.2.9"),))
    assert files.renew(state, other, NOW) == other
    for kind, (root, leaf) in before.items():
        new_root, new_leaf = files.read(state, kind)
        assert new_root == root and new_leaf.public_key() != leaf.public_key()
        assert names_of(new_leaf) == other
    context.load(pairs(state))


def test_a_ca_is_not_made_over_another(state: Path) -> None:
    before = {path: path.read_bytes() for path in (state / "tls").iterdir()}
    with pytest.raises(Conflict, match="there is a CA already"):
        files.create(state, NAMES, NOW)
    with pytest.raises(Invalid, match="may not vouch"):
        files.renew(state, Names(("prov.example.com",)), NOW)
    assert {path: path.read_bytes() for path in (state / "tls").iterdir()} == before


def test_what_is_missing_or_damaged_is_told(state: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="init --ca"):
        files.read(tmp_path / "elsewhere", Kind.OPERATORS)
    (state / "tls" / "ca.key").unlink()
    with pytest.raises(NotFound, match=r"ca\.key: is not there; bring it back"):
        files.renew(state, None, NOW)
    (state / "tls" / "ca.key").write_bytes(b"nothing")
    with pytest.raises(Invalid, match=r"ca\.pem: is not a CA"):
        files.renew(state, None, NOW)
    (state / "tls" / "ca.pem").write_bytes(b"nothing")
    with pytest.raises(Invalid, match="restore it from the backup"):
        files.read(state, Kind.OPERATORS)
    (state / "tls" / "ca.pem").unlink()
    (state / "tls" / "ca.pem").mkdir()
    with pytest.raises(Unavailable, match="cannot be read"):
        files.read(state, Kind.OPERATORS)


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "tls").write_bytes(b"")
    with pytest.raises(Unavailable, match="tls"):
        files.create(tmp_path, NAMES, NOW)
