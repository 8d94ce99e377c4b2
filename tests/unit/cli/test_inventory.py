"""`provision init` and `provision apply`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from provision.errors import Exit
from provision.settings import TEMPLATE
from tests.helpers.cli_runner import cli, failed, good
from tests.helpers.site_fixture import INVENTORY


def test_init_makes_a_private_directory(tmp_path: Path) -> None:
    state = tmp_path / "new"
    assert "back" in good(cli(state, "init")).out
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "key").stat().st_mode) == 0o600
    key = (state / "key").read_bytes()
    assert "already" in good(cli(state, "init")).out
    assert (state / "key").read_bytes() == key
    assert good(cli(state, "init", "--json")).json["made"] is False


def test_init_leaves_other_directories_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("x")
    tmp_path.chmod(0o755)
    assert "photo.jpg" in failed(cli(tmp_path, "init"), Exit.CONFLICT)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert not (tmp_path / "key").exists()


def test_init_in_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    failed(cli(tmp_path / "file" / "state", "init"), Exit.UNAVAILABLE)


def test_every_problem_of_an_inventory_is_a_line(state: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(INVENTORY.replace("10.0.0.11", "10.9.0.11").replace("never", "neverr"))
    ran = cli(state, "apply", tmp_path / "bad.yaml")
    assert ran.code == Exit.INVALID
    assert ran.err.count("bad.yaml:") == 2
    assert "nothing was changed" in ran.err


def test_apply_shows_makes_and_asks(state: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(INVENTORY.replace("rack: a", "rack: b"))
    shown = good(cli(state, "apply", changed, "--dry-run")).out
    assert "rack" in shown
    assert "nothing was applied" in shown
    assert good(cli(state, "apply", changed)).out.splitlines()[:-1] == shown.splitlines()[:-1]
    assert "no difference" in good(cli(state, "apply", changed)).out
    changed.write_text(INVENTORY[: INVENTORY.index("  node2:")])
    assert "no difference" not in good(cli(state, "apply", changed)).out
    assert len(good(cli(state, "host", "list", "--json")).json) == 3
    refused = cli(state, "apply", changed, "--prune")
    assert (refused.code, refused.err.count("\n")) == (Exit.CONFLICT, 1)
    assert "give --yes" in refused.err
    assert len(good(cli(state, "host", "list", "--json")).json) == 3
    good(cli(state, "apply", changed, "--prune", "--yes"))
    assert [h["name"] for h in good(cli(state, "host", "list", "--json")).json] == ["node1"]


def test_init_again_says_what_it_changed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert cli(state, "init").code == 0
    assert cli(state, "init").out.endswith("already; nothing was changed\n")
    (state / "provision.toml").unlink()
    state.chmod(0o750)
    again = cli(state, "init").out
    assert "0700 now, made" in again
    assert "nothing was changed" not in again
    assert (stat.S_IMODE(state.stat().st_mode), (state / "provision.toml").read_text()) == (0o700, TEMPLATE)
    assert stat.S_IMODE((state / "provision.toml").stat().st_mode) == 0o644


def test_init_does_not_take_junk_for_a_key(tmp_path: Path) -> None:
    cli(tmp_path / "state", "init")
    (tmp_path / "state" / "key").write_text("junk")
    ran = cli(tmp_path / "state", "init")
    assert (ran.code, ran.out, ran.err.count("\n")) == (Exit.UNAVAILABLE, "", 1)
    assert "the master key is not 32 bytes in hex" in ran.err


def test_init_on_a_full_disk_leaves_no_half_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        ran = cli(tmp_path / "state", "init")
        assert (ran.code, ran.err.count("\n")) == (Exit.UNAVAILABLE, 1)
        assert list((tmp_path / "state").iterdir()) == []
    assert cli(tmp_path / "state", "init").code == 0
    assert (tmp_path / "state" / "provision.toml").read_text() == TEMPLATE


def test_a_resolver_that_is_dead_is_outside(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dead(*_: object) -> bool:
        return False

    monkeypatch.setattr("provision.netcheck._is_alive", dead)
    ran = cli(state, "check", "--server", "127.0.0.1:9")
    assert (ran.code, ran.err.count("\n")) == (Exit.UNAVAILABLE, 1)
    assert ran.err.startswith("error: DNS server 127.0.0.1 port 9: no answer; ")


def test_an_inventory_comes_by_standard_input(state: Path) -> None:
    changed = INVENTORY.replace("rack: a", "rack: c")
    assert changed != INVENTORY
    assert "2 changed" in good(cli(state, "apply", "-", stdin=changed.encode())).out
    assert "standard input:1: " in cli(state, "apply", "-", stdin=b"nonsense").err


def test_the_base_of_a_host_is_the_one_that_it_boots(state: Path) -> None:
    assert cli(state, "host", "show", "node1").json["base"] == "base"
