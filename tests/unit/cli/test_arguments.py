"""The command line with names and values that nothing can have: one line, and nobody else's object is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.cli.arguments import of_host, route
from provision.cli.output import plain
from provision.errors import Exit, Invalid
from tests.helpers.cli_runner import cli

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("host", "show", "NAME"),
    ("explain", "NAME"),
    ("window", "NAME"),
    ("window", "NAME", "--close"),
    ("status", "NAME"),
    ("audit", "--host", "NAME"),
    ("iso", "NAME"),
    ("disk", "NAME", "-o", "x.img"),
    ("link", "create", "NAME"),
    ("link", "NAME"),
    ("link", "list", "--host", "NAME"),
    ("link", "revoke", "NAME"),
    ("credential", "list", "NAME"),
    ("credential", "set", "NAME", "token", "--file", "/etc/hostname"),
    ("credential", "set", "node1", "NAME", "--file", "/etc/hostname"),
    ("credential", "remove", "NAME", "token"),
    ("credential", "remove", "node1", "NAME"),
    ("bmc", "show", "NAME"),
    ("bmc", "check", "NAME"),
    ("bmc", "remove", "NAME"),
    ("bmc", "set", "NAME", "--url", "https://b", "--user", "root", "--password-file", "/etc/hostname"),
    ("power", "NAME", "status"),
    ("power", "NAME", "on"),
    ("boot", "NAME"),
    ("image", "verify", "NAME"),
    ("image", "remove", "NAME"),
)


@pytest.mark.parametrize("name", ["", ".", "..", "../hosts/node1", "node1/credentials", "a\nb/", "x" * 64, "\udcff"])
def test_what_is_no_name_is_said_to_be_none(name: str) -> None:
    with pytest.raises(Invalid, match=r"^'.*': cannot be the name of a host, a credential or an image; "):
        route("hosts", name)
    with pytest.raises(Invalid):
        of_host(name)


def test_every_segment_is_quoted() -> None:
    assert route("hosts", "a?b#c%2Fd", "window") == "/v1/hosts/a%3Fb%23c%252Fd/window"
    assert (of_host(None), of_host("a b")) == ({}, {"host": "a b"})


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_takes_a_path_for_a_name(state: Path, command: tuple[str, ...]) -> None:
    ran = cli(state, *("../hosts/node1" if part == "NAME" else part for part in command))
    assert (ran.code, ran.out) == (Exit.INVALID, ""), ran
    fact = (
        "link: is not a valid link id" if command[:2] == ("link", "revoke") else "'../hosts/node1': cannot be the name"
    )
    assert ran.err.startswith(f"error: {fact}")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_other_unusual_names_are_not_found_or_refused(state: Path, command: tuple[str, ...]) -> None:
    for name in ("a?b#c%2Fd\n", "x" * 63):
        ran = cli(state, *(name if part == "NAME" else part for part in command))
        empty_log = command[0] == "audit" and ran.code == 0
        assert empty_log or ran.code in (Exit.INVALID, Exit.NOT_FOUND), (name[:9], ran)
        assert "internal" not in ran.err and "Traceback" not in ran.err
        assert ran.err.count("\n") <= 1


def test_a_path_in_a_name_reaches_no_other_object(state: Path) -> None:
    cli(state, "credential", "remove", "node2", "../../node1/credentials/token")
    assert "node1" in cli(state, "credential", "list").out


@pytest.mark.parametrize("value", ["\udcff", "x" * 100_000], ids=["not UTF-8", "long"])
@pytest.mark.parametrize(
    "command",
    [
        ("host", "list", "--selector", "rack=VALUE"),
        ("iso", "--selector", "rack=VALUE", "--out", "batch"),
        ("check", "--server", "VALUE"),
        ("credential", "set", "node1", "token", "--file", "/etc/hostname", "--path", "VALUE"),
        ("credential", "set", "node1", "token", "--file", "/etc/hostname", "--mode", "VALUE"),
        ("image", "import", "VALUE", "--kernel", "/etc/hostname", "--initrd", "/etc/hostname"),
        ("image", "import", "b", "--kernel", "/etc/hostname", "--initrd", "/etc/hostname", "--cmdline", "VALUE"),
        ("apply", "VALUE"),
        ("iso", "node1", "-o", "VALUE"),
        ("render", "-o", "VALUE"),
        ("dhcp", "-o", "VALUE"),
        ("credential", "load", "VALUE"),
    ],
    ids=lambda command: " ".join(command)[:30],
)
def test_no_value_is_an_internal_error(state: Path, command: tuple[str, ...], value: str) -> None:
    ran = cli(state, *(part.replace("VALUE", value) for part in command))
    assert "internal" not in ran.err and "Traceback" not in ran.err, ran.err[:300]


@pytest.mark.parametrize("name", ["", "Big Box", "../x", "x" * 64, "\udcff"])
def test_a_platform_has_a_name(tmp_path: Path, name: str) -> None:
    ran = cli(tmp_path, "platform", "detect", "--name", name)
    assert (ran.code, ran.out) == (Exit.INVALID, "")
    assert ran.err.startswith(f"error: '{plain(name[:63])}': is not a valid name for a platform; ")
