"""`provision credential`: where secrets come from, and what is said of those that do not fit."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from provision.api.credentials import CredentialRow
from provision.cli.credential import _roll_over
from provision.credential import MAX_FILE
from provision.errors import Exit
from tests.helpers.cli_runner import cli, document, good


def test_a_secret_may_come_from_standard_input(state: Path) -> None:
    ran = cli(state, "credential", "set", "node1", "token", "--file", "-", stdin=b"from-standard-input")
    assert "version 2" in good(ran).out


def test_content_that_is_exposed_is_no_way_out(state: Path, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"one-token")
    (tmp_path / "new").write_bytes(b"another-token")
    wanted = ("credential", "set", "node1", "token", "--file")
    good(cli(state, *wanted, tmp_path / "old"))
    good(cli(state, "host", "compromised", "node1"))
    ran = cli(state, *wanted, tmp_path / "old")
    assert (ran.code, "note: token of node1 is still exposed" in ran.err) == (0, True), ran
    good(cli(state, *wanted, tmp_path / "new"))


def test_a_credential_that_is_not_there_has_a_way_out(state: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for command in (("load", tmp_path / "nosuch"), ("set", "node1", "token", "--file", tmp_path / "empty")):
        assert document(cli(state, "credential", *command, "--json"), Exit.INVALID)["remedy"]


def test_a_secret_is_a_file_that_ends(state: Path, tmp_path: Path) -> None:
    wanted = ("credential", "set", "node1", "token", "--file")
    ran = cli(state, *wanted, "/dev/zero")
    assert (ran.code, "/dev/zero: is not a file; name the file" in ran.err) == (Exit.INVALID, True)
    (tmp_path / "large").write_bytes(bytes(MAX_FILE + 1))
    assert f"large: has more than {MAX_FILE} bytes" in cli(state, *wanted, "large").err
    assert f"-: has more than {MAX_FILE} bytes" in cli(state, *wanted, "-", stdin=bytes(MAX_FILE + 1)).err
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"from-a-pipe",))
    writer.start()
    assert "version 2" in cli(state, *wanted, "pipe").out
    writer.join()


def test_a_load_tells_every_problem_at_once_and_seals_nothing(state: Path, tmp_path: Path) -> None:
    for name, content in {
        "node1/token": b"two\nlines",
        "node2/token": b"good",
        "node3/token": b"x",
        "x/y": b"z",
    }.items():
        (tmp_path / "load" / name).parent.mkdir(parents=True)
        (tmp_path / "load" / name).write_bytes(content)
    ran = cli(state, "credential", "load", "load")
    assert ran.code == Exit.INVALID
    assert [line.split("; ")[0] for line in ran.err.splitlines()] == [
        "error: load/node1/token: the token has more than one line, or a zero byte",
        "error: load/node3/token: node3 does not name this credential",
        "error: load/x: no host of this name is in the inventory",
        "3 problems",
    ]
    assert {row["version"] for row in cli(state, "credential", "list", "--json").json} == {1}


def test_one_is_shown_without_its_content(state: Path) -> None:
    shown = good(cli(state, "credential", "show", "node1", "token")).out
    assert shown.splitlines() == [
        "token of node1: token, /etc/token, mode 0600",
        "version 1, set 2026-03-01T12:00:00Z",
    ]
    assert json.loads(good(cli(state, "credential", "show", "node1", "token", "--json")).out)["earlier"] is None
    assert document(cli(state, "credential", "show", "node1", "keytab", "--json"), Exit.NOT_FOUND)["remedy"]


def test_what_is_shown_says_how_far_a_roll_over_is() -> None:
    row = CredentialRow.model_validate(
        {"host": "n1", "name": "token", "kind": "token", "path": "/etc/token", "mode": "0600", "version": 3}
        | {"sha256": "", "not_after": None, "held": 1, "earlier": 1, "exposed": True}
    )
    assert _roll_over(row) == [
        "the host has version 1 on its disk, and gets the newest one by",
        "  provision host reprovision n1",
        "version 1 is kept, too, until the host has the newest one",
        "others may have its content: set it again",
    ]
    there = row.model_copy(update={"held": 3, "earlier": None, "exposed": False})
    assert _roll_over(there) == ["the host has version 3 on its disk"]
