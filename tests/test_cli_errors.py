"""Errors of the command line name what they are about, and the way out, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Exit
from tests.cli_runner import Ran, cli
from tests.site_fixture import closed_site


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
        ("nonsense", Exit.INVALID, "is no URL of a database"),
        ("", Exit.INVALID, "is no URL of a database"),
        ("postgresql+psycopg2://u:canary@h:port/x", Exit.INVALID, "is no URL of a database"),
        ("nothing+at-all://u:canary@h/x", Exit.INVALID, "is no URL of a database"),
        ("postgresql+driver_that_is_not://u:canary@h/x", Exit.INVALID, "is no URL of a database"),
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
