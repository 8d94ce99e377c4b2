"""Long work of a running service: killed, cancelled or left in the middle of an upload, it leaves nothing half done."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Exit
from tests.fixtures.media import image_archive, kernel, write
from tests.helpers.api_site import ApiSite, api_site, enlarge
from tests.helpers.cli_runner import cli
from tests.helpers.serving import PROVISION, Served, serve


@pytest.fixture
def here(tmp_path: Path) -> Iterator[tuple[ApiSite, Served]]:
    (tmp_path / "site").mkdir()
    made = api_site(tmp_path / "site")
    with serve(made.state) as served:
        yield made, served


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until a condition holds; what it then is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
    return found


def importing(site: ApiSite, directory: Path) -> subprocess.Popen[str]:
    """An import by the command line that is being built by the service."""
    parts = write(directory / "k", kernel(payload=4 << 20)), write(directory / "i", image_archive())
    argv = [*PROVISION, "--state", site.state, "image", "import", "new", "--kernel", parts[0], "--initrd", parts[1]]
    process = subprocess.Popen(list(map(str, argv)), stdout=-1, stderr=-1, text=True, stdin=subprocess.DEVNULL)
    eventually(lambda: list((site.state / "bases").glob(".import-*")))
    return process


def nothing_is_left(state: Path) -> None:
    assert list((state / "tmp").iterdir()) == [] and list((state / "bases").glob(".import-*")) == []
    assert [row["name"] for row in cli(state, "image", "list", "--json").json] == ["base"]


def operations(state: Path) -> list[dict[str, Any]]:
    argv = ["curl", "-sS", "--unix-socket", str(state / "operator.sock"), "http://provision/v1/operations"]
    found = json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout)
    assert isinstance(found, list)
    return found


def test_a_service_that_is_killed_leaves_no_import_and_forgets_its_operation(
    here: tuple[ApiSite, Served], tmp_path: Path
) -> None:
    made, served = here
    with importing(made, tmp_path) as process:
        (running,) = operations(made.state)
        assert (running["kind"], running["image"], running["state"]) == ("import", "new", "running")
        served.stop(signal.SIGKILL)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == Exit.UNAVAILABLE and len(said.splitlines()) == 1 and "connection broke" in said
    with serve(made.state, tmp_path / "again.log"):
        assert operations(made.state) == []
        nothing_is_left(made.state)
        argv = ["curl", "-sS", "--unix-socket", str(made.state / "operator.sock")]
        argv.append(f"http://provision/v1/operations/{running['id']}?wait=30")
        told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
        assert '"status":404' in told and "the service has been restarted since" in told
        with importing(made, tmp_path) as process:
            assert process.wait(120) == Exit.OK


def test_ctrl_c_cancels_an_import(here: tuple[ApiSite, Served], tmp_path: Path) -> None:
    made, _ = here
    with importing(made, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode not in (Exit.OK, Exit.INVALID)
    (ended,) = operations(made.state)
    assert ended["state"] == "failed" and "cancelled" in ended["problem"]["fact"]
    nothing_is_left(made.state)


def test_an_upload_that_breaks_is_cleaned_up(here: tuple[ApiSite, Served]) -> None:
    made, _ = here
    uploads = made.state / "tmp"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(made.state / "operator.sock"))
        sock.sendall(b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
        eventually(lambda: list(uploads.iterdir()))
    eventually(lambda: not list(uploads.iterdir()))


def test_the_digest_of_a_large_medium_is_an_operation(tmp_path: Path) -> None:
    made = api_site(tmp_path)
    enlarge(made.state, 300 << 20)
    with serve(made.state):
        ran = cli(made.state, "iso", "node1", "-o", tmp_path / "node1.iso", "--json")
        assert ran.code == 0, ran.err
        (ended,) = operations(made.state)
        assert (ended["kind"], ended["host"], ended["state"]) == ("sha256 of iso", "node1", "done")
        assert ended["result"] == {name: value for name, value in ran.json.items() if name != "file"}
        assert cli(made.state, "iso", "node1", "-o", tmp_path / "again.iso").code == 0
        assert len(operations(made.state)) == 1, "it is known now"
