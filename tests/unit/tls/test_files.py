"""The CA's directory: private, whole, and renewed by the roots that are there."""

from __future__ import annotations

import shutil
import ssl
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from provision import clock, writing
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.tls import authority, context, files
from provision.tls.authority import Identity, Kind, Names, names_of
from provision.tls.kept import Certificates
from tests.helpers.certificates import NAMES
from tests.helpers.killing import kill, killed

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


@pytest.fixture(scope="module")
def issued() -> Callable[..., Identity]:
    """Makes certificates, one of each kind: keys of RSA take a second."""
    made = dict[Kind, Identity]()

    def issue(root: Identity, kind: Kind, names: Names, now: datetime) -> Identity:
        if kind not in made:
            made[kind] = authority.issue(root, kind, names, now)
        return made[kind]

    return issue


@pytest.fixture(scope="module")
def present(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with certificates, to be copied."""
    state = tmp_path_factory.mktemp("ca")
    files.create(state, NAMES, NOW)
    return state


@pytest.mark.parametrize("written", range(4))
def test_a_renewal_that_is_killed_is_told_and_done_again(
    tmp_path: Path, present: Path, issued: Callable[..., Identity], written: int
) -> None:
    """kill -9 of `ca renew` before each file: a service that runs keeps what it has, one that starts then says which
    files do not belong together, and the same command mends it."""
    state = shutil.copytree(present, tmp_path / "state")
    running = Certificates(pairs(state), lambda: NOW)
    first, left = running.context, iter(range(written))
    with patch.object(
        files, "authority", SimpleNamespace(issue=issued, names_of=names_of, identity=authority.identity)
    ):

        def write(path: Path, content: bytes) -> None:
            writing.write(path, content) if next(left, None) is not None else kill()

        def renew() -> None:
            with patch.object(files, "write", write):
                files.renew(state, None, NOW)

        issued(files._root(state, Kind.FIRMWARE), Kind.FIRMWARE, NAMES, NOW)  # for the process that is killed, too
        killed(renew)
        is_torn = written % 2 == 1  # a key is there, and its certificate is not
        started = Certificates(pairs(state), lambda: NOW)
        assert (looked(running) is first) == (is_torn or not written)
        assert (running.problem is not None, started.context is None) == (is_torn, is_torn)
        if is_torn:
            assert "is not the key of" in str(started.problem) and "'provision ca renew'" in str(started.problem)
        assert files.renew(state, None, NOW) == NAMES
    for certificates in (running, started):
        assert looked(certificates) is not None and certificates.problem is None
    assert len(list((state / "tls").iterdir())) == 8


def looked(certificates: Certificates) -> ssl.SSLContext | None:
    """The context after the two looks that a change takes."""
    certificates.look()
    certificates.look()
    return certificates.context
