"""bmc: set without the password in any argument, shown without it, checked, removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import Ran, cli, failed, good
from tests.helpers.redfish import PASSWORD, USER, Bmc, certificate, fingerprint, served


@pytest.fixture
def bmc() -> Iterator[Bmc]:
    with served("dell") as there:
        yield there


@pytest.fixture
def word(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def put(state: Path, bmc: Bmc, word: Path, *more: str | Path) -> Ran:
    pins = more or ("--fingerprint", fingerprint(certificate()[0]))
    return cli(state, "bmc", "set", "node1", "--url", bmc.url, "--user", USER, "--password-file", word, *pins)


def test_a_life(state: Path, bmc: Bmc, word: Path) -> None:
    said = [good(put(state, bmc, word)), good(cli(state, "bmc", "show", "node1"))]
    checked = good(cli(state, "bmc", "check", "node1"))
    assert "Dell iDRAC" in checked.out and "PowerEdge R650" in checked.out and " off " in checked.out
    shown = good(cli(state, "bmc", "show", "node1", "--json")).json
    assert shown["url"] == bmc.url and shown["user"] == USER and shown["known_by"].startswith("sha256 ")
    assert "password" not in shown
    said += [checked, good(cli(state, "audit", "--json")), good(cli(state, "bmc", "remove", "node1"))]
    assert not any(PASSWORD in ran.out + ran.err for ran in said)
    assert "has not been set" in failed(cli(state, "bmc", "show", "node1"), Exit.NOT_FOUND)


def test_by_its_ca_and_from_standard_input(state: Path, bmc: Bmc, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(certificate()[0])
    arguments = ("bmc", "set", "node1", "--url", bmc.url, "--user", USER, "--password-file", "-")
    ran = cli(state, *arguments, "--ca", tmp_path / "ca.pem", "--json", stdin=PASSWORD.encode())
    assert good(ran).json["known_by"] == "its own CA"
    assert good(cli(state, "bmc", "check", "node1", "--json")).json["problems"] == []


def test_another_hosts_bmc_is_a_problem(state: Path, bmc: Bmc, word: Path) -> None:
    good(put(state, bmc, word))
    nic = next(document for path, document in bmc.documents.items() if path.endswith("NIC.1"))
    nic.update({"MACAddress": "52:54:00:00:00:77", "PermanentMACAddress": "52:54:00:00:00:77"})
    ran = cli(state, "bmc", "check", "node1")
    assert ran.code == Exit.FAILED and "PROBLEM: its machine has none of the MACs of node1" in ran.out


@pytest.mark.parametrize(
    "more",
    [
        ("--url", "http://10.0.0.1"),
        ("--url", f"https://root:{PASSWORD}@10.0.0.1"),
        ("--fingerprint", "abc"),
        ("--user", "a:b"),
        ("--system", "../x"),
        ("--user", "x" * 1000),
    ],
)
def test_what_is_no_bmc_is_refused(state: Path, bmc: Bmc, word: Path, more: tuple[str, ...]) -> None:
    assert PASSWORD not in failed(put(state, bmc, word, *more), Exit.INVALID)
    failed(cli(state, "bmc", "show", "node1"), Exit.NOT_FOUND)


def test_files_that_are_none(state: Path, bmc: Bmc, word: Path, tmp_path: Path) -> None:
    failed(put(state, bmc, tmp_path / "missing"), Exit.UNAVAILABLE)
    failed(put(state, bmc, tmp_path), Exit.INVALID)
    word.write_text("two\nlines")
    failed(put(state, bmc, word), Exit.INVALID)
    (tmp_path / "ca").write_bytes(b"\xff")
    failed(put(state, bmc, word, "--ca", tmp_path / "ca"), Exit.INVALID)
