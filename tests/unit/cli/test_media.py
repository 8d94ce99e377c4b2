"""`provision iso`, `disk`, `render` and `dhcp`: files that are whole, and private when they hold secrets."""

from __future__ import annotations

import hashlib
import io
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from provision.api.media import MediumDescription
from provision.cli.download import download, stream
from provision.cli.main import main
from provision.errors import Exit
from tests.helpers.cli_runner import cli, failed, good
from tests.helpers.site_fixture import CANARY, MAC1


@pytest.mark.parametrize("medium", ["iso", "disk"])
def test_a_medium_is_written_whole_private_and_sparse(state: Path, tmp_path: Path, medium: str) -> None:
    path = tmp_path / "out.img"
    path.write_text("what was there before")
    told = good(cli(state, medium, "node1", "-o", path, "--json")).json
    assert hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"]
    assert (path.stat().st_size, told["file"]) == (told["size"], str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CANARY in path.read_bytes()
    if medium == "disk":
        assert path.stat().st_blocks * 512 < path.stat().st_size // 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.img", "site.yaml", "state"]
    first = path.read_bytes()
    good(cli(state, medium, "node1", "-o", path))
    assert path.read_bytes() == first, "the same input, the same bytes"


class Pipe(io.TextIOWrapper):
    """What reads standard output. The run closes no file, so what came can be read after it."""

    def __init__(self) -> None:
        self.came = io.BytesIO()
        super().__init__(self.came)

    def close(self) -> None:
        """Not yet."""


def piped(monkeypatch: pytest.MonkeyPatch, state: Path, *command: str) -> tuple[int, bytes, str]:
    """Exit code, output and errors of a run whose output is bytes."""
    out, err = Pipe(), io.StringIO()
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(sys, "argv", ["provision", "--state", str(state), *command])
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        main()
    return int(ended.value.code or 0), out.came.getvalue(), err.getvalue()


def test_a_medium_goes_through_a_pipe_and_not_to_a_terminal(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node1.img"
    told = good(cli(state, "disk", "node1", "-o", path, "--json")).json
    said = f"note: {told['size']} bytes, SHA-256 {told['sha256']}\n"
    assert piped(monkeypatch, state, "disk", "node1", "-o", "-") == (0, path.read_bytes(), said)
    refused = failed(cli(state, "iso", "node1", "-o", "-", terminal=True), Exit.INVALID)
    assert "standard output: is a terminal" in refused
    for option in ("--json", "--resume"):
        assert cli(state, "iso", "node1", "-o", "-", option).code == Exit.USAGE
    assert not (tmp_path / "-").exists()


def test_what_a_pipe_gets_is_checked(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(client: Any, url: str, described: MediumDescription, *rest: Any) -> None:
        stream(client, url, described.model_copy(update={"sha256": "0" * 64}), *rest)

    monkeypatch.setattr("provision.cli.download.stream", other)
    code, _, said = piped(monkeypatch, state, "iso", "node1", "-o", "-")
    assert (code, said.count("\n")) == (Exit.INVALID, 1)
    assert said.startswith("error: standard output: what arrived is not the medium")


def test_a_file_that_nobody_named_is_not_replaced_unasked(state: Path, tmp_path: Path) -> None:
    assert "wrote node1.iso" in good(cli(state, "iso", "node1")).out
    path = tmp_path / "node1.iso"
    written = path.read_bytes()
    path.write_text("somebody's")
    assert "--force" in failed(cli(state, "iso", "node1"), Exit.CONFLICT)
    assert path.read_text() == "somebody's"
    good(cli(state, "iso", "node1", "--force"))
    assert path.read_bytes() == written
    assert cli(state, "iso", "--selector", "rack=a", "--out", "batch", "--force").code == Exit.USAGE


def test_a_medium_that_changes_while_it_is_written_is_refused(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(client: Any, url: str, described: MediumDescription, *rest: Any, **more: Any) -> None:
        download(client, url, described.model_copy(update={"etag": '"of-another-revision"'}), *rest, **more)

    monkeypatch.setattr("provision.cli.download.download", later)
    assert "run the command again" in failed(cli(state, "iso", "node1", "-o", tmp_path / "x.iso"), Exit.CONFLICT)
    assert not (tmp_path / "x.iso").exists()


@pytest.mark.parametrize("links", [False, True])
def test_the_tree_holds_no_secret(state: Path, tmp_path: Path, links: bool) -> None:
    tree = tmp_path / "tree"
    good(cli(state, "render", "-o", tree, *(["--links"] if links else [])))
    files = [path for path in tree.rglob("*") if path.is_file()]
    assert {path.relative_to(tree).parts[0] for path in files} >= {"pxelinux.cfg", "grub", "images", "lpxelinux.0"}
    assert (tree / f"pxelinux.cfg/01-{MAC1.replace(':', '-')}").read_text().count("/boot/seed/current/seed.cpio") == 1
    assert not any(CANARY in path.read_bytes() for path in files)
    assert {path.is_symlink() for path in files if path.name == "kernel"} == {links}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site.yaml", "state", "tree"]
    failed(cli(state, "render", "-o", tree), Exit.CONFLICT)


@pytest.mark.integration
def test_dnsmasq_takes_the_configuration(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "dhcp.conf"
    assert "dnsmasq takes it" in good(cli(state, "dhcp", "--check", "-o", path)).out
    assert good(cli(state, "dhcp")).out == good(cli(state, "dhcp", "-o", "-")).out == path.read_text()
    assert not (tmp_path / "-").exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_unit_names_its_configuration_by_a_plain_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"--conf-file={tmp_path}/dnsmasq.conf\n" in cli(tmp_path, "dhcp", "--unit", "dnsmasq.conf").out
    ran = cli(tmp_path, "dhcp", "--unit", "/etc/my site/dnsmasq.conf")
    assert (ran.code, ran.err.count("\n")) == (Exit.INVALID, 1)
    assert ran.err.startswith("error: /etc/my site/dnsmasq.conf: this path has white space")
    assert cli(tmp_path, "dhcp", "--unit", "/etc/dnsmasq.conf", "--check").code == Exit.USAGE


def test_a_path_that_is_too_long_says_what_to_do(state: Path) -> None:
    ran = cli(state, "iso", "node1", "-o", "x" * 300)
    assert ran.err.endswith("x: cannot be written (File name too long); give a shorter path\n")
