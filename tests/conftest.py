"""What holds for all tests, however they are started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from provision.demo.site import DemoSite
from provision.errors import Unavailable
from provision.lab.lans import Lab, inside
from provision.lab.processes import Process
from provision.web.operator import app as operator_app
from tests.helpers.cli_runner import cli
from tests.helpers.forked import ForkedProcess
from tests.helpers.serving import PROVISION
from tests.helpers.shared_routes import shared

# A shell that runs commands in the background has them ignore Ctrl-C, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast examples are made says something about the machine only.
settings.register_profile("provision", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("provision")

Unit = TypeVar("Unit")

LONGEST = (
    *("boot/test_unified.py", "boot/test_host_image.py", "boot/test_demo.py"),
    *("project/test_bench.py", "integration/attacks/test_races.py", "integration/attacks/test_operator_socket.py"),
    *("integration/attacks/test_floods.py", "integration/test_faults.py", "integration/web/test_browser.py"),
    *(
        "integration/web/test_many_hosts.py",
        "integration/attacks/test_bindings.py",
        "integration/server/test_server.py",
    ),
    *("integration/attacks/test_nat.py", "integration/attacks/test_evidence.py", "integration/attacks/test_stored.py"),
)
"""They start first, the longest before the others, so that no worker waits for another one at the end."""

FLOODS = frozenset(f"integration/attacks/test_{name}.py" for name in ("crowding", "evidence", "floods", "sources"))
"""They come from hundreds of addresses, and all namespaces together have one table of neighbours: one at a time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first. Boots compute, and other files wait more: these take turns, and each of them
    goes to a worker as a whole."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    boots = [[item] for item in items if here / "boot" in item.path.parents]
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if here / "boot" not in item.path.parents:
            files.setdefault(item.path, []).append(item)
            name = item.path.relative_to(here).as_posix()
            item.add_marker(pytest.mark.xdist_group("floods" if name in FLOODS else name))
    items[:] = [item for unit in in_turn(boots, [*files.values()]) for item in unit]


def in_turn(*queues: list[Unit]) -> list[Unit]:
    """What is in some queues in one: each is half through when the others are."""
    placed = [((place + 0.5) / len(queue), unit) for queue in queues for place, unit in enumerate(queue)]
    return [unit for _, unit in sorted(placed, key=lambda one: one[0])]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A host's programs set it for themselves; those that a test calls in its own process leave nothing behind."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session", autouse=True)
def _routes_made_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator_app, "over", shared(operator_app.over))
        yield


@pytest.fixture(scope="session", autouse=True)
def _services_are_forked() -> Iterator[None]:
    """Also those of a laboratory."""
    really = Lab.spawn

    def spawn(lab: Lab, namespace: str | None, argv: Sequence[str | Path], **options: Any) -> Process:
        if namespace is None or [*argv[:3]] != [*PROVISION] or set(options) - {"log"}:
            return really(lab, namespace, argv, **options)
        name = options.get("log") or f"provision-{len(lab._processes)}.log"
        process = ForkedProcess(argv[3:], lab.directory / name, namespace)
        lab._processes.append(process)
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lab, "spawn", spawn)
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_in_this_process() -> Iterator[Callable[..., str]]:
    """Sites give their commands in the server's namespace, where what these make has addresses of; but to start a
    process for each costs a second of a processor, and sites ask again and again. Gives the way that starts one."""

    def call(site: DemoSite, *arguments: str | Path, stdin: bytes = b"") -> str:
        with inside(site.lab.server):
            ran = cli(site.state, *arguments, stdin=stdin)
        if ran.code:
            raise Unavailable("provision", ran.err.strip())
        return ran.out

    with_a_process = DemoSite.call
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DemoSite, "call", call)
        yield with_a_process
