"""The command line: help, output for people and programs, errors of one line, exit codes, files that are whole."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from provision.api.media import MediumDescription
from provision.cli.download import download
from provision.cli.main import EPILOG, app
from provision.errors import Exit
from tests.helpers.cli_runner import Ran, cli
from tests.helpers.site_fixture import CANARY, INVENTORY, MAC1, closed_site


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(INVENTORY)
    return closed_site(tmp_path)


def good(ran: Ran) -> Ran:
    assert ran.code == 0, ran
    assert ran.err == ""
    return ran


def failed(ran: Ran, code: Exit) -> str:
    """The one line of an error."""
    assert ran.code == code, ran
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err + ran.out
    return ran.err


# Help


def every_command() -> list[tuple[str, ...]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*path, name))

    return list(walk(typer.main.get_command(app), ()))


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(command: tuple[str, ...], flag: str) -> None:
    ran = good(cli("/nonexistent", *command, flag))
    assert "Usage: provision" in ran.out
    text = [line.strip() for line in ran.out.splitlines() if line.strip()]
    assert len(text[1].split()) >= 3, "the first line after the usage says what it is for"


def test_the_help_lists_every_exit_code() -> None:
    out = good(cli("/nonexistent", "--help")).out
    assert all(str(int(code)) in EPILOG for code in Exit)
    assert "Exit codes: 0 done" in " ".join(out.split())


def test_the_commands_are_those_of_the_plan() -> None:
    there = {path[0] for path in every_command() if path}
    wanted = (
        "init apply check host credential image platform explain iso disk link render dhcp serve window status audit"
    )
    assert there == {*wanted.split(), "demo", "store", "clock", "completion"}


# init


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


# Output for programs

READS: list[tuple[str, ...]] = [
    ("host", "list"),
    ("host", "list", "--selector", "rack=a"),
    ("host", "show", "node1"),
    ("credential", "list"),
    ("credential", "list", "node1"),
    ("image", "list"),
    ("image", "verify", "base"),
    ("explain", "node1"),
    ("status",),
    ("status", "node1"),
    ("audit",),
    ("audit", "--host", "node1", "--limit", "1"),
    ("audit", "--verify"),
    ("dhcp",),
]


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_what_only_reads_prints_for_people_and_for_programs(state: Path, command: tuple[str, ...]) -> None:
    people, first, last = cli(state, *command), cli(state, "--json", *command), cli(state, *command, "--json")
    assert good(people).out.strip()
    assert good(first).json == good(last).json
    assert CANARY.decode() not in people.out + first.out


def test_what_changes_something_prints_json(state: Path, tmp_path: Path) -> None:
    token, site = tmp_path / "token", tmp_path / "site.yaml"
    token.write_bytes(b"abcdef-token")
    tree = tmp_path / "load" / "node2"
    tree.mkdir(parents=True)
    (tree / "token").write_bytes(b"xyz-token-of-node2")
    for command in (
        ("window", "node1", "--minutes", "5", "--boots", "2"),
        ("window", "node1", "--close"),
        ("credential", "set", "node1", "token", "--file", token),
        ("credential", "load", tmp_path / "load"),
        ("credential", "remove", "node1", "token"),
        ("apply", site),
        ("apply", site, "--dry-run"),
        ("iso", "node2", "-o", tmp_path / "x.iso"),
        ("disk", "--selector", "rack=a", "--out", tmp_path / "batch"),
        ("render", "-o", tmp_path / "tree"),
        ("dhcp", "-o", tmp_path / "dhcp.conf"),
    ):
        ran = cli(state, *command, "--json")
        assert ran.code == (Exit.DENIED if command[0] == "disk" else 0), ran
        assert ran.json is not None, command


# Errors


NODE4 = """\
  node4:
    storage: none
    interfaces:
      mgmt: {mac: "52:54:00:00:00:04", network: mgmt, addressing: dhcp}
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("host", "show", "node9"), Exit.NOT_FOUND),
        (("explain", "node9"), Exit.NOT_FOUND),
        (("window", "node9"), Exit.NOT_FOUND),
        (("window", "node3"), Exit.INVALID),
        (("window", "node1", "--minutes", "0"), Exit.INVALID),
        (("iso", "node9"), Exit.NOT_FOUND),
        (("iso", "--selector", "rack=z", "--out", "batch"), Exit.NOT_FOUND),
        (("image", "verify", "other"), Exit.NOT_FOUND),
        (("image", "remove", "base"), Exit.CONFLICT),
        (("credential", "set", "node1", "token", "--file", "/nonexistent"), Exit.UNAVAILABLE),
        (("credential", "set", "node1", "other", "--file", "/etc/hostname"), Exit.INVALID),
        (("credential", "remove", "node3", "token"), Exit.NOT_FOUND),
        (("check", "--server", "not-an-address"), Exit.INVALID),
        (("image", "import", "x", "--kernel", "/nonexistent", "--initrd", "/nonexistent"), Exit.UNAVAILABLE),
        (("disk", "node4"), Exit.DENIED),
        (("iso", "node1", "-o", "/"), Exit.CONFLICT),
        (("iso", "node1", "-o", "/nonexistent/x.iso"), Exit.UNAVAILABLE),
        (("render", "-o", "/etc"), Exit.CONFLICT),
        (("apply", "/nonexistent.yaml"), None),
    ],
)
def test_an_error_is_one_line_and_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], code: Exit | None
) -> None:
    monkeypatch.chdir(tmp_path)
    state = closed_site(tmp_path, INVENTORY + NODE4)
    ran = cli(state, *command)
    assert ran.code == (code or ran.code) != 0
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    as_json = cli(state, *command, "--json")
    document = json.loads(as_json.err)
    assert as_json.code == document["exit"] == ran.code
    assert document["detail"]
    assert as_json.out == ""


@pytest.mark.parametrize(
    "command",
    [
        ("iso",),
        ("iso", "node1", "--selector", "rack=a"),
        ("iso", "--selector", "rack", "--out", "x"),
        ("nonsense",),
        ("window", "node1", "--minutes", "many"),
        ("apply",),
        ("host", "list", "--selector", "rack"),
        ("audit", "--limit", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_two(state: Path, command: tuple[str, ...]) -> None:
    ran = cli(state, *command)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage" in ran.err


def test_without_a_state_directory(tmp_path: Path) -> None:
    assert "provision init" in failed(cli(tmp_path / "none", "host", "list"), Exit.UNAVAILABLE)
    cli(tmp_path / "new", "init")
    assert "provision apply" in failed(cli(tmp_path / "new", "explain", "node1"), Exit.NOT_FOUND) + "provision apply"
    assert "nothing has been applied" in failed(cli(tmp_path / "new", "dhcp"), Exit.CONFLICT)


def test_wrong_settings_are_reported_all_at_once(state: Path) -> None:
    (state / "provision.toml").write_text('max_connection = 5\nheader_timeout = -1\n[[listen]]\nnetwork = "mgmt"\n')
    ran = cli(state, "host", "list")
    assert ran.code == Exit.INVALID
    assert "did you mean 'max_connections'?" in ran.err
    assert ran.err.count("error: ") == 3
    document = json.loads(cli(state, "host", "list", "--json").err)
    assert (document["subject"], len(document["problems"])) == (str(state / "provision.toml"), 3)
    assert document["remedy"] == "correct each of them"


def test_every_problem_of_an_inventory_is_a_line(state: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(INVENTORY.replace("10.0.0.11", "10.9.0.11").replace("never", "neverr"))
    ran = cli(state, "apply", tmp_path / "bad.yaml")
    assert ran.code == Exit.INVALID
    assert ran.err.count("bad.yaml:") == 2
    assert "nothing was changed" in ran.err


def test_a_bug_is_one_line_that_says_no_content(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(CANARY.decode())

    monkeypatch.setattr("provision.inventory.files.load", broken)
    line = failed(cli(state, "apply", "x"), Exit.FAILED)
    assert "internal error (RuntimeError in " in line
    assert CANARY.decode() not in line
    assert json.loads(cli(state, "apply", "x", "--json").err)["exit"] == 1


# apply


def test_apply_shows_makes_and_asks(state: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(INVENTORY.replace("rack: a", "rack: b"))
    shown = good(cli(state, "apply", changed, "--dry-run")).out
    assert "rack" in shown
    assert "nothing would be applied" in shown
    assert good(cli(state, "apply", changed)).out.splitlines()[:-1] == shown.splitlines()[:-1]
    assert "no difference" in good(cli(state, "apply", changed)).out
    changed.write_text(INVENTORY[: INVENTORY.index("  node2:")])
    assert "no difference" not in good(cli(state, "apply", changed)).out
    assert len(good(cli(state, "host", "list", "--json")).json) == 3
    refused = cli(state, "apply", changed, "--prune")
    assert (refused.code, refused.err.count("\n")) == (Exit.CONFLICT, 1)
    assert "say --yes" in refused.err
    assert len(good(cli(state, "host", "list", "--json")).json) == 3
    good(cli(state, "apply", changed, "--prune", "--yes"))
    assert [h["name"] for h in good(cli(state, "host", "list", "--json")).json] == ["node1"]


# Media


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
    def later(client: Any, url: str, described: MediumDescription, *rest: Any) -> None:
        download(client, url, described.model_copy(update={"etag": '"of-another-revision"'}), *rest)

    monkeypatch.setattr("provision.cli.download.download", later)
    assert "run the command again" in failed(cli(state, "iso", "node1", "-o", tmp_path / "x.iso"), Exit.CONFLICT)
    assert not (tmp_path / "x.iso").exists()


def test_a_batch_has_a_manifest_and_resumes(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    rows = good(cli(state, "iso", "--selector", "rack=a", "--out", out, "--json")).json
    assert [row["host"] for row in rows] == ["node1", "node2"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == {"format": 1, "hosts": rows}
    for row in rows:
        assert hashlib.sha256((out / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert (row["decision"], len(row["macs"])) == ("released", 1)
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    (out / "node2.iso").write_bytes(b"cut short")
    text = good(cli(state, "iso", "--selector", "rack=a", "--out", out)).out
    assert "node1: node1.iso is up to date" in text
    assert "node2: wrote node2.iso" in text
    assert (out / "node1.iso").stat().st_ino == before["node1.iso"]
    (out / "manifest.json").write_text("{broken")
    assert good(cli(state, "iso", "--selector", "rack=a", "--out", out, "--json")).json == rows


def test_a_batch_names_who_was_denied(state: Path, tmp_path: Path) -> None:
    good(cli(state, "credential", "remove", "node2", "token"))
    ran = cli(state, "disk", "--selector", "rack=a", "--out", tmp_path / "batch")
    assert ran.code == Exit.DENIED
    rows = {row["host"]: row for row in json.loads((tmp_path / "batch" / "manifest.json").read_text())["hosts"]}
    assert (rows["node2"]["decision"], rows["node2"]["file"]) == ("denied", None)
    assert "token" in rows["node2"]["reason"]
    assert rows["node1"]["decision"] == "released"


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


def test_windows_and_what_is_explained(state: Path) -> None:
    assert "window-closed" in good(cli(state, "explain", "node1")).out
    assert "2 times" in good(cli(state, "window", "node1", "--boots", "2")).out
    rows = good(cli(state, "explain", "node1", "--json")).json
    assert {r["medium"] for r in rows if r["channel"] == "management:mgmt" and r["allowed"]} == {"pxe", "http-boot"}
    assert "open, 0 of 2 used" in good(cli(state, "status", "node1")).out
    good(cli(state, "window", "node1", "--close"))
    assert "closed, 0 of 2 used" in good(cli(state, "status", "node1")).out
    assert f"uid={os.getuid()}" in good(cli(state, "audit")).out


def test_a_secret_may_come_from_standard_input(state: Path) -> None:
    ran = cli(state, "credential", "set", "node1", "token", "--file", "-", stdin=b"from-standard-input")
    assert "version 2" in good(ran).out
