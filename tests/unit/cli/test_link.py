"""link: made, listed and revoked on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import TOML, closed_site

URL = re.compile(r"http://10\.0\.0\.1/b/[0-9a-hjkmnp-tv-z]{26}\.(iso|img)")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return closed_site(tmp_path, toml=f"{TOML}links = true\n")


def test_a_link_is_made_listed_and_revoked(state: Path) -> None:
    made = cli(state, "link", "node1")
    url, said = made.out.splitlines()
    assert made.code == 0 and URL.fullmatch(url) and url.endswith(".iso")
    assert " to node1's iso: to be used once by anyone who has it, until 20" in said
    other = cli(
        state,
        "link",
        "create",
        "node2",
        "--medium",
        "disk",
        "--minutes",
        "5",
        "--uses",
        "2",
        "--address",
        "10.0.0.9",
        "--json",
    ).json
    assert URL.fullmatch(other["urls"][0]) and (other["uses"], other["address"], other["caution"]) == (
        2,
        "10.0.0.9",
        None,
    )
    rows = cli(state, "link", "list", "--json").json
    assert [(row["host"], row["medium"], row["state"], row["uses"]) for row in rows] == [
        ("node2", "disk", "good", 2),
        ("node1", "iso", "good", 1),
    ]
    assert url.rpartition("/")[2][:26] not in cli(state, "link", "list").out
    assert [row["host"] for row in cli(state, "link", "list", "--host", "node1", "--json").json] == ["node1"]
    assert cli(state, "link", "revoke", other["id"]).out == f"revoked link {other['id']}\n"
    assert [row["state"] for row in cli(state, "link", "list", "--json").json] == ["revoked", "good"]


def test_what_cannot_be_is_said(state: Path, tmp_path: Path) -> None:
    for arguments, code in (
        (("node9",), Exit.NOT_FOUND),
        (("node1", "--minutes", "0"), Exit.INVALID),
        (("node1", "--uses", "101"), Exit.INVALID),
        (("node1", "--address", "bmc1"), Exit.USAGE),
        (("node1", "--medium", "pxe"), Exit.USAGE),
        (("node1", "--format", "qcow2"), Exit.USAGE),
        (("revoke", "0123456789ab"), Exit.NOT_FOUND),
        (("revoke", "x"), Exit.INVALID),
        (("list", "--host", "node9"), Exit.NOT_FOUND),
        (("create",), Exit.USAGE),
    ):
        assert cli(state, "link", *arguments).code == code, arguments
    url = cli(state, "link", "node1").out.splitlines()[0]
    assert cli(state, "link", "revoke", url).err == "error: link: is not a valid link id; see 'provision link list'\n"
    (tmp_path / "other").mkdir()
    ran = cli(closed_site(tmp_path / "other"), "link", "node1")
    assert ran.code == Exit.CONFLICT and "links = true" in ran.err
