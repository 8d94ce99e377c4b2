"""The command line as a whole: options, errors of one line, and exit codes."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import typer

from provision.cli.main import EPILOG
from provision.errors import Exit
from tests.helpers.cli_runner import cli, document, failed, good, run
from tests.helpers.site_fixture import CANARY, INVENTORY, closed_site


def test_the_help_lists_every_exit_code() -> None:
    out = good(cli("/nonexistent", "--help")).out
    assert all(str(int(code)) in EPILOG for code in Exit)
    assert "Exit codes: 0 done" in " ".join(out.split())


NODE4 = """\
  node4:
    storage: none
    interfaces:
      mgmt: {mac: "52:54:00:00:00:04", network: mgmt, addressing: dhcp}
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("host", "show", "node9"), Exit.NOT_FOUND),
        (("explain", "node9"), Exit.NOT_FOUND),
        (("window", "node9"), Exit.NOT_FOUND),
        (("window", "node3"), Exit.INVALID),
        (("window", "node1", "--minutes", "0"), Exit.INVALID),
        (("iso", "node9"), Exit.NOT_FOUND),
        (("iso", "--selector", "rack=z", "--out", "batch"), Exit.NOT_FOUND),
        (("image", "verify", "other"), Exit.NOT_FOUND),
        (("image", "remove", "base"), Exit.CONFLICT),
        (("credential", "set", "node1", "token", "--file", "/nonexistent"), Exit.UNAVAILABLE),
        (("credential", "set", "node1", "other", "--file", "/etc/hostname"), Exit.INVALID),
        (("credential", "remove", "node3", "token"), Exit.NOT_FOUND),
        (("check", "--server", "not-an-address"), Exit.INVALID),
        (("image", "import", "x", "--kernel", "/nonexistent", "--initrd", "/nonexistent"), Exit.UNAVAILABLE),
        (("disk", "node4"), Exit.DENIED),
        (("iso", "node1", "-o", "/"), Exit.CONFLICT),
        (("iso", "node1", "-o", "/nonexistent/x.iso"), Exit.UNAVAILABLE),
        (("render", "-o", "/etc"), Exit.CONFLICT),
        (("apply", "/nonexistent.yaml"), None),
    ],
)
def test_an_error_is_one_line_and_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], code: Exit | None
) -> None:
    monkeypatch.chdir(tmp_path)
    state = closed_site(tmp_path, INVENTORY + NODE4)
    ran = cli(state, *command)
    assert ran.code == (code or ran.code) != 0
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    as_json = cli(state, *command, "--json")
    document = json.loads(as_json.err)
    assert as_json.code == document["exit"] == ran.code
    assert document["detail"]
    assert as_json.out == ""


@pytest.mark.parametrize(
    "command",
    [
        ("iso",),
        ("iso", "node1", "--selector", "rack=a"),
        ("iso", "--selector", "rack", "--out", "x"),
        ("nonsense",),
        ("window", "node1", "--minutes", "many"),
        ("apply",),
        ("host", "list", "--selector", "rack"),
        ("audit", "--limit", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_two(state: Path, command: tuple[str, ...]) -> None:
    ran = cli(state, *command)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage" in ran.err
    as_json = cli(state, *command, "--json")
    told = document(as_json, Exit.USAGE)
    assert (told["title"], as_json.out) == ("usage", "")
    assert told["fact"].strip(".") in " ".join(ran.err.replace("│", "").split())
    assert told["remedy"] == f"see '{told['subject']} --help'"
    assert told["subject"].split()[1:] == [word for word in command if word in told["subject"].split()]


def test_no_command_is_wrong_usage_for_programs() -> None:
    for command in ((), ("host",)):
        assert document(run(*command, "--json"), Exit.USAGE)["fact"] == "Missing command"


def test_the_version_needs_no_command() -> None:
    found = metadata.version("provision")
    assert good(run("--version")).out == f"provision {found}\n"
    for words in (("--version", "--json"), ("--json", "--version")):
        assert good(run(*words)).json == {"version": found}


def test_a_question_that_is_not_answered_is_an_error_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise typer.Abort

    monkeypatch.setattr("provision.inventory.files.load", ask)
    assert document(run("apply", "x", "--json"), Exit.FAILED)["fact"] == "ended at a question"


def test_without_a_state_directory(tmp_path: Path) -> None:
    assert "provision init" in failed(cli(tmp_path / "none", "host", "list"), Exit.UNAVAILABLE)
    cli(tmp_path / "new", "init")
    assert "provision apply" in failed(cli(tmp_path / "new", "explain", "node1"), Exit.NOT_FOUND) + "provision apply"
    assert "nothing has been applied" in failed(cli(tmp_path / "new", "dhcp"), Exit.CONFLICT)


def test_wrong_settings_are_reported_all_at_once(state: Path) -> None:
    (state / "provision.toml").write_text('max_connection = 5\nheader_timeout = -1\n[[listen]]\nnetwork = "mgmt"\n')
    ran = cli(state, "host", "list")
    assert ran.code == Exit.INVALID
    assert "did you mean 'max_connections'?" in ran.err
    assert ran.err.count("error: ") == 3
    document = json.loads(cli(state, "host", "list", "--json").err)
    assert (document["subject"], len(document["problems"])) == (str(state / "provision.toml"), 3)
    assert document["remedy"] == "correct each of them"


def test_a_bug_is_one_line_that_says_no_content(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(CANARY.decode())

    monkeypatch.setattr("provision.inventory.files.load", broken)
    line = failed(cli(state, "apply", "x"), Exit.FAILED)
    assert "internal error (RuntimeError in " in line
    assert CANARY.decode() not in line
    assert json.loads(cli(state, "apply", "x", "--json").err)["exit"] == 1


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
