"""Every command is explained, prints for people and for programs, and loads only what it uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from provision.cli.commands import COMMANDS, Group
from provision.cli.main import app
from provision.errors import Exit
from tests.helpers.cli_runner import cli, good
from tests.helpers.loading import HEAVY, loaded
from tests.helpers.site_fixture import CANARY


def every_command() -> list[tuple[str, ...]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*path, name))

    return list(walk(typer.main.get_command(app), ()))


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(command: tuple[str, ...], flag: str) -> None:
    ran = good(cli("/nonexistent", *command, flag))
    assert "Usage: provision" in ran.out
    text = [line.strip() for line in ran.out.splitlines() if line.strip()]
    assert len(text[1].split()) >= 3, "the first line after the usage says what it is for"


def test_the_commands_are_those_of_the_plan() -> None:
    there = {path[0] for path in every_command() if path}
    wanted = (
        "init apply check host credential token image platform explain iso disk link render dhcp serve window status"
        " audit login logout"
    )
    assert there == {
        *wanted.split(),
        "demo",
        "store",
        "clock",
        "completion",
        "ca",
        "bmc",
        "power",
        "boot",
        "webhook",
        "rollout",
        "site-key",
        "sb",
        "enroll",
        "tpm",
    }


READS: list[tuple[str, ...]] = [
    ("host", "list"),
    ("host", "list", "--selector", "rack=a"),
    ("host", "show", "node1"),
    ("credential", "list"),
    ("credential", "list", "node1"),
    ("image", "list"),
    ("image", "verify", "base"),
    ("explain", "node1"),
    ("status",),
    ("status", "node1"),
    ("audit",),
    ("audit", "--host", "node1", "--limit", "1"),
    ("audit", "--verify"),
    ("dhcp",),
    ("site-key", "list"),
    ("sb", "list"),
    ("tpm", "list"),
    ("tpm", "show", "node1"),
    ("tpm", "explain", "node1"),
]


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_what_only_reads_prints_for_people_and_for_programs(state: Path, command: tuple[str, ...]) -> None:
    people, first, last = cli(state, *command), cli(state, "--json", *command), cli(state, *command, "--json")
    assert good(people).out.strip()
    assert unread(good(first).json) == unread(good(last).json)
    assert CANARY.decode() not in people.out + first.out


def unread(answer: Any) -> Any:
    """An answer without what reading the audit log adds to it."""
    if isinstance(answer, list):
        return [row for row in answer if not isinstance(row, dict) or row.get("event") != "audit-read"]
    return {key: value for key, value in answer.items() if key != "entries"}


def test_what_changes_something_prints_json(state: Path, tmp_path: Path) -> None:
    token, site = tmp_path / "token", tmp_path / "site.yaml"
    token.write_bytes(b"abcdef-token")
    eks = tmp_path / "eks.csv"
    eks.write_text(f"host,fingerprint\nnode1,{'ab' * 32}\n")
    tree = tmp_path / "load" / "node2"
    tree.mkdir(parents=True)
    (tree / "token").write_bytes(b"xyz-token-of-node2")
    for command in (
        ("window", "node1", "--minutes", "5", "--boots", "2"),
        ("window", "node1", "--close"),
        ("enroll", "node1", "--minutes", "5"),
        ("enroll", "node1", "--close"),
        ("tpm", "import", eks),
        ("tpm", "remove", "node1", "--imported"),
        ("tpm", "revoke", "base"),
        ("credential", "set", "node1", "token", "--file", token),
        ("credential", "load", tmp_path / "load"),
        ("credential", "remove", "node1", "token"),
        ("apply", site),
        ("apply", site, "--dry-run"),
        ("iso", "node2", "-o", tmp_path / "x.iso"),
        ("disk", "--selector", "rack=a", "--out", tmp_path / "batch"),
        ("render", "-o", tmp_path / "tree"),
        ("dhcp", "-o", tmp_path / "dhcp.conf"),
    ):
        ran = cli(state, *command, "--json")
        assert ran.code == (Exit.DENIED if command[0] == "disk" else 0), ran
        assert ran.json is not None, command


def test_every_command_of_a_group_is_explained_as_lightly() -> None:
    groups = [(name, row) for name, row in COMMANDS.items() if isinstance(row, Group)]
    assert groups
    for name, _ in groups:
        assert loaded(name, "--help") & HEAVY == set(), name


def test_the_help_loads_nothing_but_the_commands() -> None:
    assert loaded("--help") & (HEAVY | {"pydantic", "yaml", "asyncio"}) == set()


@pytest.mark.parametrize("name", [name for name, row in COMMANDS.items() if not isinstance(row, Group)])
def test_the_help_of_a_command_loads_nothing_that_it_uses(name: str) -> None:
    assert loaded(name, "--help") & HEAVY == set()
