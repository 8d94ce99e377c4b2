"""Two admins apply inventories at the same time: what was shown is what is made, or nothing is."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from provision.cli import output
from provision.errors import Exit
from tests.helpers.cli_runner import cli
from tests.helpers.serving import run, serve
from tests.helpers.site_fixture import INVENTORY, closed_site


def test_what_another_admin_has_changed_meanwhile_is_kept(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml="")
    mine, theirs = tmp_path / "mine.yaml", tmp_path / "theirs.yaml"
    mine.write_text(INVENTORY.replace("rack: a", "rack: b"))
    theirs.write_text(INVENTORY.replace("rack: a", "rack: c"))
    say, shown = output.say, list[str]()

    def saying(text: str) -> None:
        if not shown:
            assert run(state, "apply", theirs).returncode == Exit.OK
        shown.append(text)
        say(text)

    with serve(state):
        with patch.object(output, "say", saying):
            ran = cli(state, "apply", mine)
        assert ran.code == Exit.CONFLICT and len(ran.err.splitlines()) == 1
        assert "somebody has changed it since you looked at it" in ran.err and shown
        assert cli(state, "host", "show", "node1", "--json").json["labels"] == {"rack": "c"}
        assert cli(state, "apply", mine).code == Exit.OK
