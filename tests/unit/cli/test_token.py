"""token: made and shown once, listed, revoked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import cli, failed, good


def test_a_token_is_printed_once(state: Path) -> None:
    made = cli(state, "token", "create", "rack7", "--role", "operator", "--selector", "rack=a")
    assert made.code == 0 and made.err.startswith("note: token rack7 is good until ")
    assert re.fullmatch(r"provision_[A-Za-z0-9_-]{43}\n", made.out), "a script takes it from standard output"
    listed = good(cli(state, "token", "list")).out
    assert "rack7" in listed and "rack=a" in listed and made.out.strip() not in listed
    (row,) = good(cli(state, "token", "list", "--json")).json
    assert (row["role"], row["selector"], row["good"], "token" in row) == ("operator", {"rack": "a"}, True, False)


def test_for_programs(state: Path) -> None:
    made = good(cli(state, "token", "create", "ci", "--role", "reader", "--days", "1", "--json")).json
    assert made["name"] == "ci" and made["token"].startswith("provision_")
    assert good(cli(state, "token", "revoke", "ci", "--json")).json == {"name": "ci", "revoked": True}
    assert good(cli(state, "token", "list", "--json")).json == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create", "A b", "--role", "reader"), Exit.INVALID),
        (("create", "ci", "--role", "reader", "--selector", "RACK=7"), Exit.INVALID),
        (("revoke", "ci"), Exit.NOT_FOUND),
    ],
)
def test_what_nothing_can_have_is_refused(state: Path, words: tuple[str, ...], code: Exit) -> None:
    failed(cli(state, "token", *words), code)
    assert good(cli(state, "token", "list", "--json")).json == []


@pytest.mark.parametrize(
    "words",
    [
        ("ci",),
        ("ci", "--role", "root"),
        ("ci", "--role", "reader", "--days", "366"),
        ("ci", "--role", "reader", "--selector", "rack"),
        ("ci", "--role", "reader", "--selector", "rack=a", "--selector", "rack=b"),
    ],
)
def test_what_is_not_its_form_is_a_wrong_use(state: Path, words: tuple[str, ...]) -> None:
    ran = cli(state, "token", "create", *words)
    assert ran.code == Exit.USAGE and "Usage: provision token create" in ran.err
    assert good(cli(state, "token", "list", "--json")).json == []
