"""`provision iso`, `disk`, `render` and `dhcp`: files that are whole, and private when they hold secrets."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest

from provision.api.media import MediumDescription
from provision.cli.download import download
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
    assert good(cli(state, "dhcp")).out == path.read_text()
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
