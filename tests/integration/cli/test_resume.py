"""Downloads from elsewhere whose connection breaks: they go on with the same medium, or end with an error."""

from __future__ import annotations

import itertools
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from provision.cli import download, servers
from provision.cli.servers import Address, Login
from provision.errors import Exit
from provision.secret import Secret
from tests.helpers.authority import Authority
from tests.helpers.cli_runner import Ran, run
from tests.helpers.cutting import Cutting, Meanwhile, cutting
from tests.helpers.front import Front, front
from tests.helpers.serving import PROVISION
from tests.helpers.site_fixture import closed_site

AUTHORITY = Authority()
SIZE = 4 << 20
"""Of the disk image; its seed begins shortly before byte 256 Ki."""
AGAIN = 24 << 10
"""Bytes of each connection that are nothing new: its handshake and header, and the record that was cut (16 KiB)."""
_values = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("server")
    with front(closed_site(directory), AUTHORITY.issue("127.0.0.1", "localhost")) as running:
        yield running


@pytest.fixture
def laptop(server: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(download, "PAUSES", (0.0,) * 5)
    enter(server, server.port)
    return tmp_path


def enter(server: Front, port: int) -> None:
    """Be logged in to the server by way of that port."""
    servers.save(Login(Address("127.0.0.1", port), AUTHORITY.pem.decode(), Secret(server.token.encode())))


@contextmanager
def breaking(server: Front, cuts: Sequence[int | None], meanwhile: Meanwhile = lambda _: None) -> Iterator[Cutting]:
    """A way to the server that breaks, with somebody logged in by it."""
    with cutting(server.port, cuts, meanwhile) as way:
        enter(server, way.port)
        yield way


def fetch(port: int, *arguments: str) -> Ran:
    return run("--server", f"https://127.0.0.1:{port}", "disk", "node1", "-o", "node1.img", *arguments)


def whole(server: Front) -> bytes:
    """The present medium, over a way that does not break."""
    ran = run("--server", server.url, "disk", "node1", "-o", "whole.img")
    assert ran.code == 0, ran
    return Path("whole.img").read_bytes()


def changing(server: Front) -> Callable[[int], None]:
    """Gives node1 another secret, and so another medium, once. By a process of its own: a download goes on in this one,
    which has one command at a time."""
    left = [b"another-secret-%d" % next(_values)]

    def change(_: int) -> None:
        if left:
            Path("secret").write_bytes(left.pop())
            argv = ("--server", server.url, "credential", "set", "node1", "token", "--file", "secret")
            subprocess.run([*PROVISION, *argv], check=True, capture_output=True, timeout=120)

    return change


def parts() -> list[Path]:
    return list(Path().glob(".node1.img*"))


CUTS = [
    [100_000],
    [70_000] * 20,
    [100_000, 0, 0, 0, 0],
    [100_000, 1, 100, 900, 1500],
    [100_000, 2000, 2500, 3000, 3500],
    [SIZE - 100_000, 2200],
    [258_000, 262_200, 5000],
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_download_goes_on_where_it_was(server: Front, laptop: Path, cuts: list[int | None]) -> None:
    with breaking(server, cuts) as way:
        ran = fetch(way.port)
    assert (ran.code, ran.err) == (0, "")
    assert (laptop / "node1.img").read_bytes() == whole(server)
    assert len(way.passed) == len(cuts) + 1
    # Of a connection that is reset, the client's system may drop all that nobody has read.
    unread = sum(way.passed[1 : len(cuts) : 2])
    assert sum(way.passed) < SIZE + AGAIN * len(way.passed) + unread, "what had come did not come again"
    assert parts() == []


def test_it_breaks_right_before_its_end(server: Front, laptop: Path) -> None:
    with breaking(server, []) as way:
        assert fetch(way.port).code == 0
    for missing in (1, 24, 200, 20_000):
        (laptop / "node1.img").unlink()
        with breaking(server, [way.passed[0] - missing]) as short:
            assert fetch(short.port).code == 0
        assert (laptop / "node1.img").read_bytes() == whole(server)


@pytest.mark.parametrize("at", [1, 1000, 2500, 4000, 70_000, 260_000, 330_000, SIZE - 100, SIZE + 2000])
def test_it_is_never_a_mix_of_two_media(server: Front, laptop: Path, at: int) -> None:
    before = whole(server)
    with breaking(server, [at], changing(server)) as way:
        ran = fetch(way.port)
    after = whole(server)
    assert after != before
    if ran.code == 0:
        assert (laptop / "node1.img").read_bytes() in (before, after)
        return
    assert not (laptop / "node1.img").exists()
    fact = "medium: it changed while it was being written; run the command again"
    assert ran.code == Exit.UNAVAILABLE or ran.err == f"error: {fact}\n"
    assert ran.code == Exit.CONFLICT or at < 70_000
    assert parts() == []


def test_a_server_that_stays_away_is_given_up(server: Front, laptop: Path) -> None:
    with breaking(server, [100_000, *[0] * 10]) as way:
        ran = fetch(way.port)
    assert (ran.code, len(way.passed)) == (Exit.UNAVAILABLE, 1 + len(download.PAUSES))
    assert f"https://127.0.0.1:{way.port}: it does not answer (" in ran.err
    assert not (laptop / "node1.img").exists() and parts() == []


def broken_off(server: Front, at: int = 1_000_000) -> Path:
    """What a run leaves that was to keep what has come."""
    with breaking(server, [at, *[0] * 10]) as way:
        ran = fetch(way.port, "--resume")
    assert (ran.code, "run the command again: what has come is kept" in ran.err) == (Exit.UNAVAILABLE, True)
    (kept,) = parts()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and 0 < kept.stat().st_size <= at
    return kept


def test_the_next_run_goes_on_with_the_same_medium(server: Front, laptop: Path) -> None:
    broken_off(server)
    with breaking(server, [None]) as way:
        ran = fetch(way.port, "--resume")
    assert (ran.code, sum(way.passed) < SIZE - 700_000, parts()) == (0, True, [])
    assert (laptop / "node1.img").read_bytes() == whole(server)
    assert stat.S_IMODE((laptop / "node1.img").stat().st_mode) == 0o600


def test_the_next_run_begins_anew_with_another_medium(server: Front, laptop: Path) -> None:
    broken_off(server)
    before = whole(server)
    changing(server)(0)
    assert fetch(server.port, "--resume").code == 0
    assert (laptop / "node1.img").read_bytes() == whole(server) != before
    assert parts() == []


def test_what_was_kept_and_altered_is_found_out(server: Front, laptop: Path) -> None:
    kept = broken_off(server)
    content = bytearray(kept.read_bytes())
    content[1000] ^= 1
    kept.write_bytes(content)
    ran = fetch(server.port, "--resume")
    assert (ran.code, "(its SHA-256 differs)" in ran.err) == (Exit.INVALID, True)
    assert not (laptop / "node1.img").exists() and parts() == []
    assert fetch(server.port, "--resume").code == 0
