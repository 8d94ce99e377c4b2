"""The CA's directory: private, whole, and renewed by the roots that are there."""

from __future__ import annotations

import errno
import os
import shutil
import ssl
import stat
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

from provision import clock
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.tls import authority, context, files
from provision.tls.authority import Kind, Names, names_of
from provision.tls.kept import Certificates
from provision.writing import write
from tests.helpers.certificates import NAMES
from tests.helpers.killing import killed_before

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


def with_quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both chains with EC keys, which take no time to make and to load. TLS has one pair of each kind, so that each of
    these has to be loaded alone."""
    own = SimpleNamespace(
        make_root=lambda _, *more: authority.make_root(Kind.OPERATORS, *more),
        issue=lambda root, _, *more: authority.issue(root, Kind.OPERATORS, *more),
        names_of=names_of,
        identity=authority.identity,
    )
    monkeypatch.setattr(files, "authority", own)


def roots(state: Path) -> dict[Kind, bytes]:
    there = {kind: state / "tls" / files.CHAINS[kind].root for kind in Kind}
    return {kind: path.read_bytes() for kind, path in there.items() if path.exists()}


def test_a_ca_whose_making_is_killed_is_made_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of `init --ca` before each of its steps. A root that somebody could have exported by then stays."""
    with_quick_keys(monkeypatch)
    other, step, killed, seen = Names(NAMES.hosts, (ip_address("192.0.2.9"),)), 0, True, set[int]()
    while killed:
        step += 1
        state = tmp_path / str(step)
        state.mkdir()
        killed = killed_before(step, lambda state=state: files.create(state, NAMES, NOW), monkeypatch)  # type: ignore[misc]
        before = roots(state)
        seen.add(len(before))
        if not killed:
            break
        files.create(state, other, NOW)
        assert before.items() <= roots(state).items(), step
        assert [names_of(files.read(state, kind)[1]) for kind in Kind] == [other, other]
        assert [Certificates([pair], lambda: NOW).problem for pair in pairs(state)] == [None, None], step
        assert len(list((state / "tls").iterdir())) == 8, "nothing is left beside them"
        assert files.renew(state, None, NOW) == other
    assert seen == {0, 1, 2} and step > 12


def test_a_disk_that_is_full_meanwhile_is_told_and_the_command_goes_through_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_quick_keys(monkeypatch)
    for step in range(8):
        state, room = tmp_path / str(step), iter(range(step))
        state.mkdir()

        def full(path: Path, content: bytes, room: Iterator[int] = room) -> None:
            if next(room, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, content)

        with monkeypatch.context() as patched:
            patched.setattr(files, "write", full)
            with pytest.raises(
                Unavailable, match=r"cannot be written \(No space left on device\); check .* free space"
            ):
                files.create(state, NAMES, NOW)
        before = roots(state)
        files.create(state, NAMES, NOW)
        assert before.items() <= roots(state).items() and len(list((state / "tls").iterdir())) == 8


def test_a_root_whose_file_is_lost_comes_back_from_the_servers_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one would be known to no client."""
    with_quick_keys(monkeypatch)
    files.create(tmp_path, NAMES, NOW)
    before = roots(tmp_path)
    (tmp_path / "tls" / "firmware-ca.pem").unlink()
    with pytest.raises(NotFound, match="init --ca"):
        files.renew(tmp_path, None, NOW)
    files.create(tmp_path, NAMES, NOW)
    assert roots(tmp_path) == before
    (tmp_path / "tls" / "ca.pem").unlink()
    (tmp_path / "tls" / "ca.key").write_bytes((tmp_path / "tls" / "firmware-ca.key").read_bytes())
    files.create(tmp_path, NAMES, NOW)
    assert roots(tmp_path)[Kind.OPERATORS] != before[Kind.OPERATORS], "a key of another root makes none"


def test_a_renewal_that_is_killed_leaves_pairs_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of `ca renew` before each of its steps: a service that runs keeps what it has, and one that starts then
    has a whole pair of each kind. The same command goes through afterwards."""
    with_quick_keys(monkeypatch)
    files.create(tmp_path, NAMES, NOW)
    before = [certificate.read_bytes() for certificate, _ in pairs(tmp_path)]
    seen, step, killed = set[tuple[bool, ...]](), 0, True
    while killed:
        step += 1
        state = tmp_path / str(step)
        shutil.copytree(tmp_path / "tls", state / "tls")
        running = [Certificates([pair], lambda: NOW) for pair in pairs(state)]
        killed = killed_before(step, lambda state=state: files.renew(state, None, NOW), monkeypatch)  # type: ignore[misc]
        assert all(map(looked, running)), step
        files.finish(state)
        started = [Certificates([pair], lambda: NOW) for pair in pairs(state)]
        assert [one.problem for one in started] == [None, None], step
        seen.add(tuple(one[0].read_bytes() != old for one, old in zip(pairs(state), before, strict=True)))
        assert all(map(looked, running)) and [one.problem for one in running] == [None, None]
        assert files.renew(state, None, NOW) == NAMES
        assert len(list((state / "tls").iterdir())) == 8, "nothing is left beside them"
    assert seen == {(False, False), (True, False), (True, True)} and step > 8


def test_what_is_left_of_another_renewal_takes_no_place(state: Path) -> None:
    """Only the certificate of the key that is there."""
    before = {path: path.read_bytes() for path in (state / "tls").iterdir()}
    left = [state / "tls" / "server.pem.next", state / "tls" / "firmware.pem.next"]
    left[0].write_bytes(before[state / "tls" / "firmware.pem"])
    left[1].write_bytes(b"half of")
    files.finish(state)
    assert {path: path.read_bytes() for path in before} == before
    (state / "tls" / "server.key").unlink()
    files.finish(state)
    files.finish(state / "elsewhere")
    assert files.renew(state, None, NOW) == NAMES and not any(path.exists() for path in left)


def looked(certificates: Certificates) -> ssl.SSLContext | None:
    """The context after the two looks that a change takes."""
    certificates.look()
    certificates.look()
    return certificates.context
