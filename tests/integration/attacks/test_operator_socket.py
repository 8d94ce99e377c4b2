"""A program that answers on the operator's socket does not control the command line that root runs there."""

from __future__ import annotations

import importlib
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from provision.errors import Exit
from tests.helpers.cli_runner import Ran, cli
from tests.helpers.paths import GOLDEN
from tests.helpers.site_fixture import INVENTORY
from tests.integration.attacks.fake_service import Behaviour, answer, archive, endless, fake, member, value
from tests.project.test_docs import leaves

TOML = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\n'
GOOD = (GOLDEN / "dhcp" / "dnsmasq.conf").read_text()
ESCAPES = "a\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b1m\u202e\r\b\x7f\u2028[red]b[/red]\\\n-rm"
KERNEL = f"images/{'a' * 64}/kernel"
CONFIG = "pxelinux.cfg/default"
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("apply", "site.yaml"),
    ("apply", "site.yaml", "--prune", "--yes"),
    ("check",),
    ("host", "list"),
    ("host", "show", "node1"),
    ("credential", "set", "node1", "token", "--file", "secret"),
    ("credential", "load", "load"),
    ("credential", "list"),
    ("credential", "remove", "node1", "token"),
    ("image", "import", "base", "--kernel", "kernel", "--initrd", "kernel"),
    ("image", "list"),
    ("image", "verify", "base"),
    ("image", "remove", "base"),
    ("iso", "node1", "-o", "target/node1.iso"),
    ("disk", "node1", "-o", "target/node1.img"),
    ("iso", "--selector", "rack=a", "--out", "target/batch"),
    ("disk", "--selector", "rack=a", "--out", "target/batch"),
    ("render", "-o", "target/tree"),
    ("render", "-o", "target/tree", "--links"),
    ("dhcp", "-o", "target/dhcp.conf"),
    ("dhcp", "--check", "-o", "target/dhcp.conf"),
    ("dhcp",),
    ("explain", "node1"),
    ("window", "node1"),
    ("window", "node1", "--close"),
    ("status",),
    ("host", "replace-mac", "node1", "mgmt", "52:54:00:00:00:11"),
    ("host", "move", "node1", "52:54:00:00:00:11", "--dry-run"),
    ("credential", "show", "node1", "token"),
    ("host", "compromised", "node1"),
    ("host", "reprovision", "node1"),
    ("host", "decommission", "node1"),
    ("host", "retry-update", "node1"),
    ("link", "create", "node1"),
    ("link", "list"),
    ("link", "revoke", "0123456789ab"),
    ("bmc", "set", "node1", "--url", "https://b", "--user", "root", "--password-file", "secret"),
    ("bmc", "show", "node1"),
    ("bmc", "check", "node1"),
    ("bmc", "remove", "node1"),
    ("power", "node1", "status"),
    ("power", "node1", "cycle"),
    ("boot", "node1", "--watch"),
    ("boot", "--selector", "rack=a"),
    ("store", "accept", "--reason", "restored"),
    ("clock", "accept", "--reason", "it was ahead"),
    ("audit",),
    ("audit", "--verify"),
    ("token", "create", "ci", "--role", "reader"),
    ("token", "list"),
    ("enroll", "node1"),
    ("enroll", "node1", "--close"),
    ("tpm", "list"),
    ("tpm", "show", "node1"),
    ("tpm", "explain", "node1"),
    ("tpm", "revoke", "base"),
    ("tpm", "import", "secret"),
    ("tpm", "accept", "node1", "ab" * 32),
    ("tpm", "reject", "node1", "ab" * 32),
    ("tpm", "remove", "node1"),
    ("rollout", "start", "base"),
    ("rollout", "status"),
    ("rollout", "pause"),
    ("rollout", "continue"),
    ("rollout", "rollback"),
    ("sb", "init"),
    ("sb", "sign", "base"),
    ("sb", "sign", "base", "--request", "target/request"),
    ("sb", "list"),
    ("sb", "iso", "base", "-o", "target/base.iso"),
    ("sb", "enrol-image", "-o", "target/enrol.img"),
    ("site-key", "list"),
    ("site-key", "roll", "signing"),
    ("site-key", "retire", "1"),
    ("webhook", "test", "desk"),
    ("webhook", "replay", "desk", "--from", "1"),
    ("token", "revoke", "ci"),
    ("completion", "words", "--", "--state", "state", "explain", ""),
)
LOCAL = {"init", "serve", "demo", "platform detect", "completion bash", "completion zsh", "completion fish"} | {
    f"image {name}" for name in ("build", "strip", "diff", "publish", "probe", "minimal-set")
}
LOCAL |= {"ca show", "ca export", "ca renew"}
"""What asks no service."""
ELSEWHERE = {"login", "logout"}
"""What asks a server elsewhere, or nobody: `test_remote.py`."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which root works, with the state directory of a service that is a stranger's."""
    monkeypatch.chdir(tmp_path)
    for name in ("state", "target", "load/node1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "state" / "provision.toml").write_text(TOML)
    (tmp_path / "site.yaml").write_text(INVENTORY)
    (tmp_path / "kernel").write_bytes(b"kernel")
    (tmp_path / "load" / "node1" / "token").write_bytes(b"token")
    (tmp_path / "secret").write_bytes(b"of-root-alone")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path / "state"


def seen(directory: Path) -> dict[str, Any]:
    """Everything outside of `target`, and what it is."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if relative.parts[0] != "target":
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(relative)] = (status.st_mode, status.st_uid, content)
    return found


def attacked(state: Path, behaviour: Behaviour, command: tuple[str, ...]) -> Ran:
    """Run a command against the hostile service; nothing may happen but below `target`, and nothing odd be printed."""
    before = seen(state.parent)
    with fake(state / "operator.sock", behaviour):
        ran = cli(state, *command)
        assert {name: what for name, what in seen(state.parent).items() if not name.endswith(".sock")} == before
    for text in (ran.out, ran.err):
        odd = [c for c in text if not c.isprintable() and c not in "\n\t"]
        assert odd == [], (command, text[:300])
    assert "internal error" not in ran.err and "Traceback" not in ran.err, (command, ran.err[:500])
    assert ran.code in (
        Exit.OK,
        Exit.FAILED,
        Exit.INVALID,
        Exit.CONFLICT,
        Exit.UNAVAILABLE,
        Exit.DENIED,
        Exit.NOT_FOUND,
    ), ran
    for path in (state.parent / "target").rglob("*"):
        assert not path.is_file() or b"of-root-alone" not in path.read_bytes(), path
    return ran


def test_every_command_is_attacked() -> None:
    main = importlib.import_module("provision.cli.main")
    names = {name.removeprefix("provision").strip() for name in leaves(get_command(main.app))} - {""}
    missing = [n for n in names - LOCAL - ELSEWHERE if not any(" ".join(c).startswith(n) for c in COMMANDS)]
    assert missing == []


def problem(status: int, **members: Any) -> Behaviour:
    document = {"title": ESCAPES, "status": status, "subject": ESCAPES, "fact": ESCAPES, "remedy": ESCAPES, "exit": 3}
    body = json.dumps(document | members).encode()
    return lambda method, path: [answer(body, "application/problem+json", f"{status} x")]


ROW = {
    **dict.fromkeys(("name", "host", "kind", "path", "mode", "sha256", "id", "kernel", "signing", "medium"), ESCAPES),
    **dict.fromkeys(("channel", "rule", "reason", "remedy", "time", "event", "answer", "subject", "fact"), ESCAPES),
    **dict.fromkeys(("install", "addressing", "storage", "netboot", "operator", "expires", "stage"), ESCAPES),
    "macs": [ESCAPES],
    "labels": {ESCAPES: ESCAPES},
    "allowed": True,
    "version": 1,
    "etag": f'"{ESCAPES}"',
    "lines": [ESCAPES],
    "notes": [ESCAPES],
    "site": [ESCAPES],
    "confirm": False,
    "added": [ESCAPES],
    "changed": {},
    "removed": [],
    "boots": 1,
    "used": 0,
    "open": True,
    "ok": False,
    "entries": 1,
    "size": 1 << 62,
    "problems": [ESCAPES],
    "hosts": [],
    "unknown": [],
    "texts": {"../../x": "x"},
    "files": {"y": "/etc/shadow"},
    "image": {"id": "a" * 64, "kernel": ESCAPES, "signing": ESCAPES},
}
OPERATION: dict[str, Any] = {
    **dict.fromkeys(("kind", "by", "started"), ESCAPES),
    **dict.fromkeys(("host", "ended", "progress", "result", "problem")),
    "id": "0" * 12,
    "image": "base",
    "state": "done",
    "steps": [],
}
IMAGE = {**ROW, "name": "base", "id": "a" * 64, "kernel_arguments": [], "loaders": []}
IMAGE |= dict.fromkeys(("seed_size", "iso_size", "disk_size"), 1) | {"revoked": False}
STATUS = {
    "hosts": [{**ROW, "parts": {ESCAPES: 1}, "network": ESCAPES, "window": {**ROW}}],
    "unknown": [{"mac": ESCAPES, "uuid": ESCAPES, "network": ESCAPES, "last": ESCAPES, "count": 1}],
}
CLIMBING = {"name": "../../state/key", "macs": ["52:54:00:00:00:01"], "sha256": "a" * 64, "size": 3, "etag": '"a"'}
SHAPES: tuple[Any, ...] = (None, [], "x", [1], {"a": {}}, [ROW])
BEHAVIOURS: dict[str, Behaviour] = {
    **{f"json {shape!r}"[:30]: value(shape) for shape in SHAPES},
    "escapes": value(ROW),
    "escapes in status": value(STATUS),
    "climbing": value([CLIMBING]),
    "one that climbs": value(CLIMBING),
    "a problem with escapes": problem(422),
    "a problem of strange types": problem(409, subject=["x"], fact={}, exit="x"),
    "a problem of unknown exit": problem(500, exit=999),
    "many problems": problem(422, problems=[{"file": ESCAPES, "line": 1, "path": ESCAPES, "fact": ESCAPES}] * 3),
    "problems of strange types": problem(422, problems=[{"file": 1, "extra": {}}, 7]),
    "a problem that is none": lambda m, p: [answer(b"[" * 9999, "application/problem+json", "404 x")],
    "nothing": lambda m, p: [],
    "no http": lambda m, p: [b"\x1b[2J" * 100],
    "half": lambda m, p: [answer(b"[]", Content_Length="100000000000")],
    "a large head": lambda m, p: [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000],
    "another type": lambda m, p: [answer(b"<script>", "text/html")],
    "packed": lambda m, p: [answer(b"\x1f\x8b" + b"\0" * 90, Content_Encoding="gzip")],
    "a redirect": lambda m, p: [answer(b"", status="302 Found", Location="http://127.0.0.1/")],
    "deep": lambda m, p: [answer(b"[" * 100_000)],
    "no utf-8": lambda m, p: [answer(b'{"a": "\xff\xfe\x80"}')],
    "large numbers": lambda m, p: [answer(b"[" + b"9" * 100_000 + b"]")],
    "an operation of strange types": value({**OPERATION, "steps": [1], "progress": "x"}),
    "escaping steps": value({**OPERATION, "steps": [ESCAPES], "progress": {"stage": ESCAPES, "fraction": 0.5}}),
    "an operation that fails with escapes": value({**OPERATION, "state": "failed", "problem": {"fact": ESCAPES}}),
    "an upload, then an image with escapes": lambda m, p: [
        answer(json.dumps({"id": "0" * 32} if "uploads" in p else {**OPERATION, "result": {**IMAGE}}).encode())
    ],
    "an upload, then another result": lambda m, p: [
        answer(json.dumps({"id": "0" * 32} if "uploads" in p else {**OPERATION, "result": {**CLIMBING}}).encode())
    ],
}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_no_answer_reaches_beyond_the_target(state: Path, name: str) -> None:
    for command in COMMANDS:
        attacked(state, BEHAVIOURS[name], command)


@pytest.mark.parametrize("name", [name for name in BEHAVIOURS if "escap" in name or "problems" in name])
def test_nor_does_it_as_json(state: Path, name: str) -> None:
    for command in COMMANDS:
        attacked(state, BEHAVIOURS[name], (*command, "--json"))


@pytest.mark.parametrize(
    "behaviour",
    [
        endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", b" " * (1 << 20)),
        endless(b"HTTP/1.1 500 X\r\nContent-Type: application/problem+json\r\n", b"[" * (1 << 20)),
        endless(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", b"#" * (1 << 20)),
        endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\n", bytes(1 << 20)),
    ],
    ids=["json", "problem", "text", "archive"],
)
def test_an_answer_without_an_end_is_left(state: Path, behaviour: Behaviour) -> None:
    for command in (("status",), ("dhcp",), ("render", "-o", "target/tree"), ("host", "list")):
        with fake(state / "operator.sock", behaviour) as one:
            ran = cli(state, *command)
        assert ran.code != Exit.OK and "internal" not in ran.err, ran
        assert one.sent < 80 << 20


MEDIUM = {"host": "node1", "medium": "iso", "sha256": "a" * 64, "size": 10, "etag": '"a"'}


@pytest.mark.parametrize(
    "medium",
    [
        [answer(b"x" * 11, "application/octet-stream")],
        [answer(b"x" * 9, "application/octet-stream")],
        [answer(b"x" * 9, "application/octet-stream", Content_Length="10")],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + bytes(1 << 20) + b"\r\n"] * 64],
        [answer(b"x" * 10, "application/octet-stream", Content_Encoding="gzip")],
    ],
    ids=["longer", "shorter", "cut", "endless", "packed"],
)
def test_a_medium_is_as_long_as_it_was_described(state: Path, medium: list[bytes]) -> None:
    described = answer(json.dumps(MEDIUM).encode())
    ran = attacked(state, lambda m, p: [described] if p.endswith("sha256") else medium, COMMANDS[13])
    assert ran.code == Exit.UNAVAILABLE, ran
    assert list((state.parent / "target").iterdir()) == []


def test_a_medium_that_goes_on_behind_its_length_is_left(state: Path) -> None:
    described = answer(json.dumps(MEDIUM).encode())
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
    medium = [head, *[b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"] * 64]
    with fake(state / "operator.sock", lambda m, p: [described] if p.endswith("sha256") else medium) as one:
        ran = cli(state, *COMMANDS[13])
    assert ran.code == Exit.UNAVAILABLE and "not the one it had described" in ran.err, ran
    assert one.sent < 16 << 20
    assert list((state.parent / "target").iterdir()) == []


@pytest.mark.parametrize("size", [-1, 1 << 50, "10", None, 1.5])
def test_a_medium_has_a_size_that_can_be(state: Path, size: Any) -> None:
    assert attacked(state, value({**MEDIUM, "size": size}), COMMANDS[13]).code == Exit.UNAVAILABLE


LINK, HARD, DEVICE, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
BAD_ARCHIVES: dict[str, bytes] = {
    **{
        f"named {name[:24]!r}": archive(member(CONFIG, b"x"), member(name, b"x"), style=style)
        for style in (tarfile.USTAR_FORMAT,)
        for name in (
            *(
                "../x",
                "../../x",
                "/etc/x",
                "pxelinux.cfg/../../x",
                "pxelinux.cfg//default",
                "./grub/grub.cfg",
                "x",
                "..",
            ),
            *("grub/grub.cfg/", "pxelinux.cfg/01-../../x", "grub/host-a.cfg", "lpxelinux.0/x", "a\nb", "\x1b[2J", "é"),
            *(f"images/{'A' * 64}/kernel", f"images/{'a' * 64}/kernel/../../../x", f"images/{'a' * 64}/initrd123"),
            "grub/host-52:54:00:00:00:01.cfg\\..\\x",
        )
    },
    "a link": archive(member(CONFIG, type=LINK, linkname="/etc/shadow")),
    "a link to a directory": archive(member("grub", type=LINK, linkname=".."), member("grub/grub.cfg", b"x")),
    "a hard link": archive(member(CONFIG, type=HARD, linkname="/etc/shadow")),
    "a device": archive(member(CONFIG, type=DEVICE, devmajor=1, devminor=5)),
    "a pipe": archive(member(CONFIG, type=FIFO)),
    "a directory": archive(member("grub", type=tarfile.DIRTYPE)),
    "the same twice": archive(member(CONFIG, b"x"), member(CONFIG, b"y")),
    "a file as a directory": archive(member("lpxelinux.0", b"x"), member("lpxelinux.0/x", b"x")),
    "a long name in a header of its own": archive(member("grub/" + "x" * 300, b"x"), style=tarfile.GNU_FORMAT),
    "a pax header": archive(member("grub/" + "é" * 300, b"x"), style=tarfile.PAX_FORMAT),
    "a large text": archive(member(CONFIG, b"x" * 70_000)),
    "a large size": archive(member(CONFIG, b"x")).replace(b"00000000001\0", b"77777777777\0", 1),
    "a size in binary": archive(member(CONFIG, b"x")).replace(b"00000000001\0", b"\x80" + b"\0" * 10 + b"\1", 1),
    "cut": archive(member(KERNEL, b"x" * 9000))[:4000],
    "without an end": archive(member(CONFIG, b"x"))[:1024],
    "more behind the end": archive(member(CONFIG, b"x")) + b"x" * 512,
    "garbage": os.urandom(4096),
    "nothing": b"",
}


@pytest.mark.parametrize("links", [False, True], ids=["copies", "links"])
@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_no_archive_writes_beyond_the_tree(state: Path, name: str, links: bool) -> None:
    command = ("render", "-o", "target/tree", *(["--links"] if links else []))
    ran = attacked(state, lambda m, p: [answer(BAD_ARCHIVES[name], "application/x-tar")], command)
    assert ran.code in (Exit.INVALID, Exit.UNAVAILABLE) and ran.err.count("\n") == 1, ran
    assert list((state.parent / "target").iterdir()) == []


def test_a_good_archive_has_fixed_modes_and_links_below_the_library(state: Path) -> None:
    odd = archive(member(CONFIG, b"x", mode=0o6777, uid=1, gid=1), member("grub/grub.cfg", b"x"), member(KERNEL))
    # What is in a header beside path and size does not count.
    good = [answer(odd, "application/x-tar")]
    assert attacked(state, lambda m, p: good, ("render", "-o", "target/tree", "--links")).code == Exit.OK
    tree = state.parent / "target" / "tree"
    modes = {str(p.relative_to(tree)): stat.S_IMODE(p.lstat().st_mode) for p in tree.rglob("*") if not p.is_symlink()}
    assert set(modes.values()) == {0o644, 0o755} and modes[CONFIG] == 0o644
    assert (tree / KERNEL).readlink() == state / "bases" / ("a" * 64) / "kernel"
    full = archive(member(KERNEL, b"content"))
    again = attacked(state, lambda m, p: [answer(full, "application/x-tar")], ("render", "-o", "target/2", "--links"))
    assert again.code == Exit.INVALID
