"""sb: what is written for machines goes into a file, or through a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import Exit
from tests.helpers.cli_runner import cli, failed, good
from tests.unit.cli.test_media import piped


@pytest.fixture
def signed(state: Path) -> Path:
    """A state directory with a Secure Boot key and a signed image of its base."""
    good(cli(state, "sb", "init"))
    good(cli(state, "sb", "sign", "base"))
    return state


def test_media_go_through_a_pipe_and_not_to_a_terminal(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = good(cli(signed, "sb", "iso", "base", "-o", "base.iso", "--json")).json
    said = f"note: {told['size']} bytes, SHA-256 {told['sha256']}\n"
    assert piped(monkeypatch, signed, "sb", "iso", "base", "-o", "-") == (0, Path("base.iso").read_bytes(), said)
    good(cli(signed, "sb", "enrol-image", "-o", "enrol.img"))
    code, image, said = piped(monkeypatch, signed, "sb", "enrol-image", "-o", "-")
    assert (code, len(image)) == (0, Path("enrol.img").stat().st_size) and image[510:512] == b"\x55\xaa"
    assert said.startswith("note: put the firmware of a machine into setup mode")
    for command in (("sb", "iso", "base", "-o", "-"), ("sb", "enrol-image", "-o", "-")):
        assert "standard output: is a terminal" in failed(cli(signed, *command, terminal=True), Exit.INVALID)
        assert cli(signed, *command, "--json").code == Exit.USAGE
    assert not Path("-").exists()
