"""Servers by their URL, and the file of logins: private, whole, and refused when it is not."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from provision.cli import servers
from provision.cli.servers import Address, Login, parse
from provision.errors import Denied, Invalid, ProvisionError
from provision.secret import Secret
from tests.helpers.killing import kill, killed

TOKEN = "canary-of-a-token"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file is."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "provision" / servers.FILE


def login(host: str = "a.test", ca: str | None = "PEM", token: str = TOKEN) -> Login:
    return Login(Address(host, 8443), ca, Secret(token.encode()))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://Prov.Example.test", "https://prov.example.test:8443"),
        ("https://192.0.2.1:443/", "https://192.0.2.1:443"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]:8443"),
        ("HTTPS://localhost:1", "https://localhost:1"),
    ],
)
def test_a_url_says_where_a_server_is(text: str, url: str) -> None:
    assert parse(text).url == url
    assert parse(url) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "prov",
            "http://prov",
            "prov:8443",
            "https://",
            "https:///x",
            "https://a/b",
            "https://a?b",
            "https://a#b",
        ),
        *("https://me:canary@a", "https://canary@a", "https://a:0", "https://a:65536", "https://a:x", "https://a b"),
        *(
            "https://[fe80::1%eth0]",
            "https://[::1",
            "https://a..test",
            "https://-a",
            "https://ä",
            "https://a\n",
            "unix:/x",
        ),
    ],
)
def test_what_is_no_url_of_a_server_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid, match=r"^--server: is not a valid server URL; ") as raised:
        parse(text)
    assert "canary" not in str(raised.value)


def test_logins_are_kept_by_server(kept: Path) -> None:
    assert servers.load() == {}
    servers.save(login())
    servers.save(login("b.test", ca=None))
    servers.save(login(token="another"))
    assert {url: (one.ca, one.token.reveal()) for url, one in servers.load().items() if one.token} == {
        "https://a.test:8443": ("PEM", b"another"),
        "https://b.test:8443": (None, TOKEN.encode()),
    }
    assert servers.find(Address("b.test", 8443)) == login("b.test", ca=None)
    assert servers.forget(Address("b.test", 8443)) == login("b.test", ca=None)
    assert servers.forget(Address("b.test", 8443)) is None
    with pytest.raises(Denied, match=r"you are not logged in to it; run 'provision --server https://b.test:8443 login"):
        servers.find(Address("b.test", 8443))
    servers.save(replace(login("c.test"), token=None))
    assert servers.find(Address("c.test", 8443)).token is None
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(kept.parent.iterdir()) == [kept]
    assert TOKEN not in repr(servers.load())


def test_logins_of_one_moment_are_all_kept(kept: Path) -> None:
    hosts = [f"h{number}.test" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda host: servers.save(login(host)), hosts))
    assert {one.address.host for one in servers.load().values()} == set(hosts)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "null", '{"format": 2}', '{"servers": {"a": {}}}', '{"more": 1}', "\xff"),
        json.dumps({"format": 1, "servers": {"https://a": {"ca": None, "token": f"{TOKEN}-ä"}}}),
        json.dumps({"format": 1, "servers": {"http://a": {"ca": None, "token": TOKEN}}}),
        json.dumps({"format": 1, "servers": {"https://a": {"ca": 1, "token": TOKEN}}}),
        json.dumps({"format": 1, "servers": {"https://a": {"ca": None, "token": [TOKEN]}}}),
        json.dumps({"format": 1, "servers": {"https://a": {"ca": None, "token": TOKEN, "more": TOKEN}}}),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_left(kept: Path, text: str) -> None:
    kept.parent.mkdir(mode=0o700)
    kept.write_text(text, "latin-1")
    kept.chmod(0o600)
    for act in (servers.load, lambda: servers.save(login()), lambda: servers.forget(login().address)):
        with pytest.raises(Invalid, match="is not a list of logins that this release knows; delete it") as raised:
            act()
        assert TOKEN not in str(raised.value)
    assert kept.read_text("latin-1") == text


def test_a_link_is_not_followed(kept: Path, tmp_path: Path) -> None:
    servers.save(login())
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Denied, match="cannot be read"):
        servers.load()


def test_a_pipe_is_not_waited_for(kept: Path) -> None:
    kept.parent.mkdir(mode=0o700)
    os.mkfifo(kept, 0o600)
    with pytest.raises(Invalid):
        servers.load()


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o660])
def test_others_have_no_part_in_it(kept: Path, mode: int) -> None:
    servers.save(login())
    kept.chmod(mode)
    for act in (servers.load, lambda: servers.save(login())):
        with pytest.raises(Denied, match=f"is open to other users \\(mode {mode:04o}\\); run 'chmod 600 ") as raised:
            act()
        assert ("revoked" in str(raised.value)) == bool(mode & 0o044)
    kept.chmod(0o600)
    kept.parent.chmod(0o755)
    with pytest.raises(Denied, match="run 'chmod 700 "):
        servers.load()


def test_a_place_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "provision").write_text("a file")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ProvisionError, match="cannot be written"):
        servers.save(login())


@pytest.mark.parametrize(
    ("owner", "name", "is_saved"),
    [(servers, "write", False), (os, "fsync", False), (Path, "replace", False), (os, "close", True)],
)
def test_a_login_that_is_killed_is_there_or_not(kept: Path, owner: object, name: str, is_saved: bool) -> None:
    """kill -9 of `login` while it stores the token: earlier logins stay, and the next one finds nothing in its way."""
    servers.save(login("before.test"))

    def save() -> None:
        with patch.object(owner, name, kill):
            servers.save(login(token="new"))

    killed(save)
    known = ["https://a.test:8443"] if is_saved else []
    assert sorted(servers.load()) == [*known, "https://before.test:8443"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept.parent.iterdir())
    servers.save(login(token="newer"))
    assert [path.name for path in kept.parent.iterdir()] == [servers.FILE], "nothing with a token is left beside it"
    assert servers.find(Address("a.test", 8443)).token == Secret(b"newer")
