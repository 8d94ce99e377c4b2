"""Errors of the command line name what they are about, and the way out, for people and for programs."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Exit
from provision.settings import TEMPLATE
from tests.helpers.cli_runner import Ran, cli
from tests.helpers.site_fixture import closed_site


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return closed_site(tmp_path)


def document(ran: Ran, code: Exit) -> dict[str, Any]:
    """The problem document that it ended with."""
    found = json.loads(ran.err)
    assert isinstance(found, dict)
    assert ran.code == found["exit"] == code, ran
    return found


def test_a_bad_kernel_is_a_problem_of_the_image(state: Path, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"no kernel")
    files = ("--kernel", tmp_path / "k", "--initrd", tmp_path / "k")
    told = document(cli(state, "image", "import", "new", *files, "--json"), Exit.INVALID)
    assert told["subject"] == "base image 'new'"
    assert told["remedy"]


def test_settings_and_credentials_are_named(state: Path, tmp_path: Path) -> None:
    (tmp_path / "load" / "node9").mkdir(parents=True)
    told = document(cli(state, "credential", "load", tmp_path / "load", "--json"), Exit.INVALID)
    assert (told["subject"], told["remedy"]) == ("credentials", "rename or move it")
    (state / "provision.toml").write_text("max_connections = 1\n")
    assert document(cli(state, "host", "list", "--json"), Exit.INVALID)["subject"] == str(state / "provision.toml")


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("nonsense", Exit.INVALID, "is not the URL of a database"),
        ("", Exit.INVALID, "is not the URL of a database"),
        ("postgresql+psycopg2://u:canary@h:port/x", Exit.INVALID, "is not the URL of a database"),
        ("nothing+at-all://u:canary@h/x", Exit.INVALID, "is not the URL of a database"),
        ("postgresql+driver_that_is_not://u:canary@h/x", Exit.INVALID, "is not the URL of a database"),
        ("mssql+pymssql://u:canary@h/x", Exit.UNAVAILABLE, "pymssql, is not installed"),
    ],
)
def test_a_database_that_cannot_be(state: Path, url: str, code: Exit, said: str) -> None:
    (state / "provision.toml").write_text(f'database = "{url}"\n')
    ran = cli(state, "host", "list")
    assert (ran.code, ran.err.count("\n")) == (code, 1), ran
    assert ran.err.startswith("error: database: ")
    assert said in ran.err
    assert "canary" not in ran.err


def test_a_database_of_another_kind(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.store.dialect._WORDS", {})
    (state / "provision.toml").write_text(f'database = "sqlite:///{state / "other.db"}"\n')
    assert "sqlite is not supported; write 'sqlite:" in cli(state, "host", "list").err


def test_init_again_says_what_it_changed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert cli(state, "init").code == 0
    assert cli(state, "init").out.endswith("already; nothing was changed\n")
    (state / "provision.toml").unlink()
    state.chmod(0o750)
    again = cli(state, "init").out
    assert "0700 now, made" in again
    assert "nothing was changed" not in again
    assert (stat.S_IMODE(state.stat().st_mode), (state / "provision.toml").read_text()) == (0o700, TEMPLATE)
    assert stat.S_IMODE((state / "provision.toml").stat().st_mode) == 0o644


def test_init_does_not_take_junk_for_a_key(tmp_path: Path) -> None:
    cli(tmp_path / "state", "init")
    (tmp_path / "state" / "key").write_text("junk")
    ran = cli(tmp_path / "state", "init")
    assert (ran.code, ran.out, ran.err.count("\n")) == (Exit.UNAVAILABLE, "", 1)
    assert "the master key is not 32 bytes in hex" in ran.err


def test_init_on_a_full_disk_leaves_no_half_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        ran = cli(tmp_path / "state", "init")
        assert (ran.code, ran.err.count("\n")) == (Exit.UNAVAILABLE, 1)
        assert list((tmp_path / "state").iterdir()) == []
    assert cli(tmp_path / "state", "init").code == 0
    assert (tmp_path / "state" / "provision.toml").read_text() == TEMPLATE


def test_a_unit_names_its_configuration_by_a_plain_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"--conf-file={tmp_path}/dnsmasq.conf\n" in cli(tmp_path, "dhcp", "--unit", "dnsmasq.conf").out
    ran = cli(tmp_path, "dhcp", "--unit", "/etc/my site/dnsmasq.conf")
    assert (ran.code, ran.err.count("\n")) == (Exit.INVALID, 1)
    assert ran.err.startswith("error: /etc/my site/dnsmasq.conf: this path has white space")
    assert cli(tmp_path, "dhcp", "--unit", "/etc/dnsmasq.conf", "--check").code == Exit.USAGE


def test_a_credential_that_is_not_there_has_a_way_out(state: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for command in (("load", tmp_path / "nosuch"), ("set", "node1", "token", "--file", tmp_path / "empty")):
        assert document(cli(state, "credential", *command, "--json"), Exit.INVALID)["remedy"]


def test_a_resolver_that_is_dead_is_outside(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dead(*_: object) -> bool:
        return False

    monkeypatch.setattr("provision.netcheck._is_alive", dead)
    ran = cli(state, "check", "--server", "127.0.0.1:9")
    assert (ran.code, ran.err.count("\n")) == (Exit.UNAVAILABLE, 1)
    assert ran.err.startswith("error: DNS server 127.0.0.1 port 9: no answer; ")
