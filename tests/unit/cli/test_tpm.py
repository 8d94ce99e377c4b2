"""Fingerprints as people type them: all of one, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.cli.tpm import grouped
from provision.errors import Exit
from provision.service.service import Service
from tests.helpers.cli_runner import cli, good
from tests.helpers.site_fixture import settings
from tests.helpers.tpm_samples import tpm

WHOLE = "0123456789abcdef" * 4


def test_it_is_shown_in_groups_and_taken_in_any(state: Path) -> None:
    assert grouped(WHOLE).split() == ["01234567", "89abcdef"] * 4
    for words in (
        grouped(WHOLE).split(),
        [grouped(WHOLE).upper()],
        [":".join(WHOLE[n : n + 2] for n in range(0, 64, 2))],
    ):
        ran = cli(state, "tpm", "accept", "node1", *words)
        assert (ran.code, "none with this fingerprint waits" in ran.err) == (Exit.NOT_FOUND, True), ran


@pytest.mark.parametrize("words", [[WHOLE[:-1]], [WHOLE + "0"], [WHOLE[:16]], ["g" + WHOLE[1:]], [""]])
@pytest.mark.parametrize("command", ["accept", "reject"])
def test_a_part_of_it_is_not_taken(state: Path, command: str, words: list[str]) -> None:
    ran = cli(state, "tpm", command, "node1", *words)
    assert (ran.code, "is not a whole SHA-256" in ran.err) == (Exit.INVALID, True), ran


def test_a_host_without_a_tpm(state: Path) -> None:
    assert good(cli(state, "tpm", "show", "node1")).out == "node1: no TPM is enrolled\n"
    good(cli(state, "enroll", "node1", "--minutes", "5"))
    assert "its TPM may be enrolled until" in good(cli(state, "tpm", "show", "node1")).out
    assert "enrolment-open" in good(cli(state, "status", "node1")).out
    shown = good(cli(state, "--json", "host", "show", "node1")).json
    assert shown["tpm_standing"].startswith("none, may be enrolled until") and shown["tpm"] == "offline"
    ran = cli(state, "enroll", "node1", "--minutes", "0")
    assert (ran.code, "1 to 10080 minutes" in ran.err) == (Exit.INVALID, True)
    for command in (("tpm", "remove", "node1"), ("tpm", "show", "node9"), ("enroll", "node9")):
        assert cli(state, *command).code == Exit.NOT_FOUND, command
    for file, code in (("/nonexistent", Exit.UNAVAILABLE), ("/etc/hostname", Exit.INVALID)):
        assert cli(state, "tpm", "import", file).code == code


def test_by_which_certificate_its_host_was_started_is_shown(state: Path) -> None:
    service = Service.open(settings(state))
    service.core.store.tpms.put(tpm("node1", loader="ab" * 32))
    service.core.store.tpms.put(tpm("node2", number=2))
    service.core.witness()
    service.close()
    assert f"  started by   certificate {'ab' * 32}\n" in good(cli(state, "tpm", "show", "node1")).out
    assert "started by" not in good(cli(state, "tpm", "show", "node2")).out
    assert [one["loader"] for one in good(cli(state, "--json", "tpm", "list")).json] == ["ab" * 32, None]
