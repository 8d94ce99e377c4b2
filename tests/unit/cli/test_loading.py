"""A command loads what it uses: what makes the command line slow to start stays where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provision.api.status import Status
from provision.cli.alone import connect
from provision.cli.client import Client
from provision.cli.commands import COMMANDS, Group
from provision.settings import load
from tests.helpers.site_fixture import closed_site
from tests.integration.attacks.fake_service import fake, value

WEB = {"fastapi", "starlette", "uvicorn", "httptools", "uvloop"}
STORE = {"sqlalchemy", "cryptography", "sqlite3"}
PARTS = {"jinja2", "pycdlib", "pyroute2", "dns", "debian", "cyclonedx"}
CLIENT = {"httpx", "rich"}
HEAVY = WEB | STORE | PARTS | CLIENT
NOTHING: dict[str, list[str]] = {"hosts": [], "unknown": [], "problems": [], "warnings": []}
_RUN = """
import sys
from provision.cli import main
sys.argv[0] = "provision"
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(*arguments: str | Path) -> set[str]:
    """The packages that a run of the command line has loaded at its end."""
    argv = [sys.executable, "-c", _RUN, *map(str, arguments)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert ran.stdout
    return set(ran.stderr.split())


def test_the_help_loads_nothing_but_the_commands() -> None:
    assert loaded("--help") & (HEAVY | {"pydantic", "yaml", "asyncio"}) == set()


@pytest.mark.parametrize("name", [name for name, row in COMMANDS.items() if not isinstance(row, Group)])
def test_the_help_of_a_command_loads_nothing_that_it_uses(name: str) -> None:
    assert loaded(name, "--help") & HEAVY == set()


def test_every_command_of_a_group_is_explained_as_lightly() -> None:
    groups = [(name, row) for name, row in COMMANDS.items() if isinstance(row, Group)]
    assert groups
    for name, _ in groups:
        assert loaded(name, "--help") & HEAVY == set(), name


def test_status_without_a_service_loads_the_store_alone(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    assert loaded("--state", state, "status") & HEAVY == STORE
    assert WEB & loaded("--state", state, "host", "list"), "what is not status goes through the application"


def test_with_a_service_no_part_of_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "provision.toml").write_text("")
    with fake(tmp_path / "operator.sock", value(NOTHING)):
        # httpx loads rich for a command line of its own.
        assert loaded("--state", tmp_path, "status") & HEAVY <= CLIENT


def test_status_says_the_same_with_and_without_the_application(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    with connect(load(state, state / "provision.toml")) as client:
        for parameters in ({}, {"host": "node1"}):
            direct = client.call(Status, "GET", "/v1/status", params=parameters)
            assert direct.hosts
            assert direct == Client.call(client, Status, "GET", "/v1/status", params=parameters)
