"""kill -9, full and read-only disks, damaged bases: a one-line error or a recovery, and never something half done."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from provision.errors import Exit
from tests.fixtures.media import image_archive, kernel, write
from tests.helpers.cli_runner import Ran, cli
from tests.helpers.netns import isolated, lan
from tests.helpers.serving import PROVISION, run, serve
from tests.helpers.site_fixture import CANARY, INVENTORY, LONG_FILES, MAC1, closed_site, make_base, site, touch


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return closed_site(tmp_path)


def kill_when(state: Path, ready: Callable[[int], bool], *arguments: str | Path, seconds: float = 120.0) -> bool:
    """Run a command and kill it with SIGKILL as soon as `ready(pid)`; whether it was killed before it ended."""
    argv = [*PROVISION, "--state", str(state), *map(str, arguments)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + seconds
    while process.poll() is None and not ready(process.pid):
        assert time.monotonic() < deadline, "nothing to be killed in"
    process.kill()
    return process.wait(30) == -signal.SIGKILL


def one_line(ran: Ran, code: Exit = Exit.UNAVAILABLE) -> str:
    assert (ran.code, ran.err.count("\n")) == (code, 1), ran
    assert ran.err.startswith("error: ")
    return ran.err


def whole(state: Path) -> None:
    """The store and the audit log open and are in order."""
    ran = cli(state, "audit", "--verify")
    assert ran.code == 0, ran


# kill -9


def big_inventory(count: int) -> str:
    hosts = "".join(
        f'  big{n}:\n    interfaces:\n      mgmt: {{mac: "52:54:01:00:{n >> 8:02x}:{n & 255:02x}", network: wide,'
        " addressing: dhcp}\n"
        for n in range(count)
    )
    wide = "    wide: {role: management, prefix: 10.64.0.0/12}\n"
    return INVENTORY.replace("    office:", f"{wide}    office:") + hosts


def test_an_apply_of_ten_thousand_hosts_is_whole_or_nothing(state: Path, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(big_inventory(10_000))
    wal = state / "provision.db-wal"
    at = time.monotonic() + random.Random(7).uniform(1.0, 4.0)
    moments: list[Callable[[int], bool]] = [
        lambda pid: time.monotonic() > at,
        lambda pid: wal.exists() and wal.stat().st_size > 100_000,
        lambda pid: wal.exists() and wal.stat().st_size > 1_500_000,
    ]
    for ready in moments:
        kill_when(state, ready, "apply", tmp_path / "big.yaml")
        whole(state)
        names = [host["name"] for host in cli(state, "host", "list", "--json").json]
        assert len(names) in (3, 10_003)
        assert cli(state, "credential", "list", "--json").json[0]["host"] == "node1"
        if len(names) == 10_003:
            break
    assert cli(state, "apply", tmp_path / "big.yaml").code == 0
    assert len(cli(state, "host", "list", "--json").json) == 10_003


@pytest.mark.parametrize("moment", ["upload", "build"])
def test_a_killed_import_leaves_no_orphan(state: Path, tmp_path: Path, moment: str) -> None:
    parts = [write(tmp_path / "k", kernel(payload=1 << 20)), write(tmp_path / "i", image_archive())]
    command = ("image", "import", "new", "--kernel", parts[0], "--initrd", parts[1])
    place, pattern = (state / "tmp", "*") if moment == "upload" else (state / "bases", ".import-*")

    def ready(pid: int) -> bool:
        try:
            return any(place.glob(pattern))
        except FileNotFoundError:
            return False  # the program makes state/tmp anew when it starts

    assert kill_when(state, ready, *command)
    assert [row["name"] for row in cli(state, "image", "list", "--json").json] == ["base"]
    assert [path.name for path in (state / "bases").iterdir() if path.name.startswith(".import")] == []
    assert list((state / "tmp").iterdir()) == []
    assert len(list((state / "bases").glob("[0-9a-f]*"))) == 1
    assert cli(state, *command).code == 0
    assert cli(state, "image", "verify", "new").code == 0


def grow(state: Path, size: int) -> None:
    """Give the base a disk of `size` bytes, most of them a hole, so that writing it takes a while."""
    (base,) = [path for path in (state / "bases").iterdir() if path.is_dir()]
    record = json.loads((base / "base.json").read_text())
    disk = base / "base.disk"
    with disk.open("r+b") as file:
        file.truncate(size)
    with disk.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record["media"]["disk"] |= {"size": size, "sha256": digest}
    (base / "base.json").write_text(json.dumps(record))
    touch(disk)


def writing_in(directory: Path) -> Callable[[int], bool]:
    """Whether a process has a file open below a directory, with a name or without."""

    def ready(pid: int) -> bool:
        try:
            links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            return False
        return any(link.is_relative_to(directory) for link in links)

    return ready


def test_a_killed_download_leaves_nothing(state: Path, tmp_path: Path) -> None:
    grow(state, 256 << 20)
    out = tmp_path / "out"
    out.mkdir()
    (out / "node1.img").write_text("the one before")
    assert kill_when(state, writing_in(out), "disk", "node1", "-o", out / "node1.img")
    assert [path.name for path in out.iterdir()] == ["node1.img"]
    assert (out / "node1.img").read_text() == "the one before"
    told = cli(state, "disk", "node1", "-o", out / "node1.img", "--json").json
    with (out / "node1.img").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == told["sha256"]
    assert (out / "node1.img").stat().st_blocks * 512 < 8 << 20


def test_a_killed_batch_goes_on(state: Path, tmp_path: Path) -> None:
    grow(state, 64 << 20)
    out = tmp_path / "out"
    command = ("disk", "--selector", "rack=a", "--out", out)
    assert kill_when(state, lambda pid: (out / "node1.img").exists(), *command)
    assert not (out / "node2.img").exists()
    # The moment in which a finished file has its first name is short; this is what kill -9 leaves in it.
    (out / ".node2.img.4194305-0123abcd").write_bytes(CANARY)
    rows = cli(state, *command, "--json").json
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "node1.img", "node2.img"], (
        "nothing unfinished"
    )
    for row in rows:
        with (out / row["file"]).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == row["sha256"]
    assert cli(state, *command).out.count("is up to date") == 2


@isolated
def test_a_boot_that_was_charged_stays_charged(tmp_path: Path) -> None:
    state = closed_site(
        tmp_path, toml='[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp = false\n'
    )
    ask = "python3 -c \"import urllib.request as u; print(u.urlopen('http://10.0.0.1:8080/{}', timeout=9).read())\""
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1) as machine:
        with serve(state) as served:
            assert cli(state, "window", "node1").code == 0
            seed = machine.sh(ask.format("boot/seed/current/seed.cpio"))
            assert CANARY.decode() in seed
            served.stop(signal.SIGKILL)
        whole(state)
        assert cli(state, "status", "node1", "--json").json["hosts"][0]["window"]["used"] == 1
        with serve(state):
            assert machine.sh(ask.format("boot/seed/current/seed.cpio")) == seed, "the same boot goes on"
            assert cli(state, "status", "node1", "--json").json["hosts"][0]["window"]["used"] == 1


# Disks


def mounted(script: str, **variables: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own."""
    values = {name: str(value) for name, value in variables.items()}
    argv = ["unshare", "-m", "sh", "-uc", script]
    environ = {**os.environ, **values, "provision": " ".join(PROVISION)}
    return subprocess.run(argv, capture_output=True, text=True, timeout=200, env=environ, check=False)


def errors_of(done: subprocess.CompletedProcess[str], commands: int) -> list[str]:
    """The errors that a script's commands printed, one line each, after checking their exit codes (echoed)."""
    codes = [int(line.removeprefix("code=")) for line in done.stdout.splitlines() if line.startswith("code=")]
    lines = done.stderr.splitlines()
    assert codes == [int(Exit.UNAVAILABLE)] * commands, done
    assert len(lines) == commands, done
    assert all(line.startswith("error: ") for line in lines), done
    assert CANARY.decode() not in done.stderr
    return lines


FULL = """
mkdir "$full" && mount -t tmpfs -o size=6m tmpfs "$full"
cp -a --sparse=always "$state" "$full/state"
export PROVISION_STATE="$full/state"
$provision audit --verify >/dev/null || exit 9
dd if=/dev/zero of="$full/filler" bs=4k 2>/dev/null
"""


def each(commands: Sequence[str]) -> str:
    return "".join(f'{command} >/dev/null; echo "code=$?"\n' for command in commands)


def test_a_full_disk_is_one_line_and_nothing_is_changed(state: Path, tmp_path: Path) -> None:
    (tmp_path / "changed.yaml").write_text(big_inventory(500))
    (tmp_path / "secret").write_bytes(b"a-secret-" * 100)
    write(tmp_path / "k", kernel(payload=1 << 20))
    write(tmp_path / "i", image_archive())
    commands = [
        '$provision apply "$here/changed.yaml"',
        '$provision credential set node1 token --file "$here/secret"',
        "$provision window node1",
        '$provision image import new --kernel "$here/k" --initrd "$here/i"',
        '$provision iso node1 -o "$here/refused.iso"',
        '$provision iso node1 -o "$full/node1.iso"',
    ]
    after = """
rm "$full/filler"
$provision audit --verify || exit 8
$provision --json host list | grep -c '"name"'
$provision --json credential list | grep -c '"version": 1'
ls -A "$full" "$full/state/tmp"
"""
    done = mounted(FULL + each(commands) + after, full=tmp_path / "full", here=tmp_path, state=state)
    errors_of(done, len(commands))
    assert done.returncode == 0, done
    assert not (tmp_path / "refused.iso").exists(), "what cannot be recorded is not given away"
    assert "the audit log is whole" in done.stdout
    assert done.stdout.split("entries", 1)[1].split()[:2] == ["3", "2"]
    assert ".part" not in done.stdout
    assert "node1.iso" not in done.stdout


def test_a_full_disk_under_the_output_only(state: Path, tmp_path: Path) -> None:
    script = """
mkdir "$full" && mount -t tmpfs -o size=100k tmpfs "$full"
export PROVISION_STATE="$state"
"""
    commands = ['$provision iso node1 -o "$full/node1.iso"', '$provision iso --selector rack=a --out "$full/batch"']
    done = mounted(script + each(commands) + 'find "$full" -type f', full=tmp_path / "full", state=state)
    assert all("No space left" in line for line in errors_of(done, 2))
    assert "iso" not in done.stdout.split("code=7")[-1], "nothing half written is left"
    whole(state)


def test_a_read_only_state_directory(state: Path) -> None:
    script = 'mount --bind "$state" "$state" && mount -o remount,bind,ro "$state"; export PROVISION_STATE="$state"\n'
    done = mounted(script + each(["$provision host list", "$provision serve", "$provision window node1"]), state=state)
    assert all("Read-only file system" in line for line in errors_of(done, 3))
    whole(state)


def test_a_log_that_cannot_grow_stops_every_answer(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        # Longer than every other file that is written here, so that the limit is met by the log alone.
        for number in range(3000):
            here.service.core.audit.record({"event": "decision", "host": f"n{number}", "reason": "x" * 500})
    state, log = here.state, here.state / "audit.log"
    (state / "provision.toml").write_text(LONG_FILES)
    commands = [
        ("iso", "node1", "-o", tmp_path / "x.iso"),
        ("window", "node1"),
        ("credential", "remove", "node1", "token"),
    ]
    limited = ["prlimit", f"--fsize={log.stat().st_size}:"]
    for command in commands:
        ran = run(state, *command, prefix=limited)
        assert (ran.returncode, ran.stderr.count("\n")) == (Exit.UNAVAILABLE, 1), ran
        assert ran.stderr.startswith(f"error: {log}: the audit log cannot be written (File too large); "), ran
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serve(state, prefix=limited) as served:
        assert "the audit log cannot be written" in one_line(cli(state, *commands[0]))
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert not (tmp_path / "x.iso").exists()
        assert cli(state, *commands[0]).code == 0, "it goes on when there is room again"
    whole(state)
    assert cli(state, "status", "node1", "--json").json["hosts"][0]["window"] is None
    assert [row["host"] for row in cli(state, "credential", "list", "--json").json] == ["node1", "node2"]


# Bases


@pytest.mark.parametrize("damage", ["deleted", "truncated", "corrupted"])
@pytest.mark.parametrize("file", ["base.iso", "kernel", "base.json"])
def test_a_damaged_base_is_named(state: Path, tmp_path: Path, damage: str, file: str) -> None:
    (base,) = [path for path in (state / "bases").iterdir() if path.is_dir()]
    path = base / file
    if damage == "deleted":
        path.unlink()
    elif damage == "truncated":
        os.truncate(path, path.stat().st_size - 1000)
        touch(path)
    else:
        with path.open("r+b") as target:
            target.seek(100)
            target.write(b"\0\xff\0\xff")
        touch(path)
    assert file in one_line(cli(state, "image", "verify", "base"))
    listed = cli(state, "image", "list")
    assert listed.code == 0
    if damage != "corrupted" or file == "base.json":
        assert file in listed.out
    if damage != "corrupted" or file != "kernel":  # an ISO has the base ISO's bytes, whatever became of the rest
        assert file in one_line(cli(state, "iso", "node1", "-o", tmp_path / "x.iso"))
        assert not (tmp_path / "x.iso").exists()
    assert cli(state, "host", "list").code == 0


def test_a_second_base_is_not_hurt_by_a_damaged_one(state: Path, tmp_path: Path) -> None:
    (broken,) = [path for path in (state / "bases").iterdir() if path.is_dir()]
    make_base(state, "other")
    (broken / "base.json").write_text("{")
    rows = {row["name"]: row.get("problem") for row in cli(state, "image", "list", "--json").json}
    assert rows["other"] is None
    assert "base.json" in str(rows["base"])
