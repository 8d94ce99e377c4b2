"""A command asks the service, when there is one."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.loading import CLIENT, HEAVY, loaded
from tests.integration.attacks.fake_service import fake, value

NOTHING: dict[str, list[str]] = {"hosts": [], "unknown": [], "problems": [], "warnings": []}


def test_with_a_service_no_part_of_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "provision.toml").write_text("")
    with fake(tmp_path / "operator.sock", value(NOTHING)):
        # httpx loads rich for a command line of its own.
        assert loaded("--state", tmp_path, "status") & HEAVY <= CLIENT
