"""`provision audit`: what was decided, and whether the log is still what was written."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import cli, failed, good


def test_an_altered_audit_log_is_told(state: Path) -> None:
    assert "is whole" in cli(state, "audit", "--verify").out
    log = state / "audit.log"
    lines = log.read_bytes().splitlines(keepends=True)
    altered = [line.replace(b"uid=0", b"uid=7") for line in lines]
    assert altered != lines
    log.write_bytes(b"".join(altered))
    ran = cli(state, "audit", "--verify")
    assert (ran.code, "NOT whole" in ran.out) == (Exit.FAILED, True)
    told = cli(state, "audit", "--verify", "--json")
    assert (told.code, told.json["ok"]) == (Exit.FAILED, False)


def test_a_log_is_held_to_the_heads_that_the_journal_has(state: Path) -> None:
    chain = json.loads((state / "audit.log").read_text().splitlines()[1])["chain"]
    kept = cli(state, "audit", "--head", f"2:{chain}")
    assert (kept.code, "is whole" in kept.out) == (Exit.OK, True)
    other = cli(state, "audit", "--verify", "--head", f"1:{chain}", "--head", f"2:{chain}")
    assert (other.code, "entry 1 is another" in other.out) == (Exit.FAILED, True)
    for name in ("audit.log", "audit.head"):
        (state / name).unlink()
    assert "is whole" in cli(state, "audit", "--verify").out, "nothing in the log knows that there was another"
    told = cli(state, "status").out
    assert "the database cannot be compared with the audit log" in told, "but the database knows"
    gone = cli(state, "audit", "--head", f"2:{chain}")
    assert (gone.code, "NOT whole" in gone.out) == (Exit.FAILED, True)


@pytest.mark.parametrize("text", ["", "2", "x:1", "0:" + "0" * 64, "2:" + "g" * 64])
def test_what_is_no_head_is_refused(state: Path, text: str) -> None:
    refused = cli(state, "audit", "--head", text)
    assert refused.code == Exit.INVALID
    assert "is not one of the audit log; write SEQ:CHAIN" in refused.err


def test_windows_and_what_is_explained(state: Path) -> None:
    assert "window-closed" in good(cli(state, "explain", "node1")).out
    assert "2 times" in good(cli(state, "window", "node1", "--boots", "2")).out
    rows = good(cli(state, "explain", "node1", "--json")).json
    assert {r["medium"] for r in rows if r["channel"] == "management:mgmt" and r["allowed"]} == {"pxe", "http-boot"}
    assert "open, 0 of 2 used" in good(cli(state, "status", "node1")).out
    good(cli(state, "window", "node1", "--close"))
    assert "closed, 0 of 2 used" in good(cli(state, "status", "node1")).out
    assert f"uid={os.getuid()}" in good(cli(state, "audit")).out


def test_windows_of_all_hosts_with_a_label(state: Path) -> None:
    failed(cli(state, "window"), Exit.INVALID)
    failed(cli(state, "window", "node1", "--selector", "rack=a"), Exit.INVALID)
    failed(cli(state, "window", "--selector", "rack=z"), Exit.NOT_FOUND)
    ran = cli(state, "window", "--selector", "rack=a", "--boots", "2")
    told = dict(line.split(": ", 1) for line in ran.out.splitlines())
    assert "2 times" in told["node1"], ran.out
    refused = [name for name, text in told.items() if text.startswith("FAILED")]
    assert all(f"{name}: " not in told[name] for name in refused), ran.out
    assert (ran.code == Exit.FAILED) == bool(refused)
    rows = cli(state, "window", "--selector", "rack=a", "--close", "--json").json
    assert {"host": "node1", "open": False} in rows and len(rows) == len(told)


def test_times_of_the_audit_log_have_seconds(state: Path) -> None:
    cli(state, "window", "node1")
    heading, *rows = cli(state, "audit").out.splitlines()
    assert heading.startswith("SEQ  TIME ")
    assert all(re.match(r"[0-9]+ +[0-9-]{10}T[0-9:]{8}Z  ", row) for row in rows)
    assert rows


def test_older_entries_of_the_audit_log_come_before_one(state: Path) -> None:
    for _ in range(2):
        cli(state, "window", "node1")
    rows = cli(state, "audit", "--json").json
    older = cli(state, "audit", "--before", str(rows[3]["seq"]), "--limit", "2", "--json").json
    assert older == rows[1:3]
    assert cli(state, "audit", "--before", "1").out.splitlines()[1:] == []


def test_a_window_says_that_nothing_listens(state: Path) -> None:
    (state / "provision.toml").write_text("")
    ran = good(cli(state, "window", "--selector", "rack=a"))
    *windows, note = ran.out.splitlines()
    assert len(windows) == 2
    assert note.startswith("note: no [[listen]] block names mgmt, so nothing answers a network boot there; add one")
    assert "[[listen]]" in cli(state, "window", "node1", "--json").json["caution"]
    (state / "provision.toml").write_text('[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\n')
    assert "note" not in cli(state, "window", "node1").out
    assert cli(state, "window", "node1", "--json").json["caution"] is None
