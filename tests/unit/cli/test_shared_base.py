"""A batch with one base, a patch for each host, and the script of a factory's station."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from provision.errors import Exit
from provision.media.disk_patch import HEADER
from tests.helpers.cli_runner import cli, good
from tests.helpers.site_fixture import CANARY

ROOM = 5 << 20


@pytest.fixture
def batch(state: Path, tmp_path: Path) -> Path:
    """A batch of two hosts; what they would have had as images of their own is beside it."""
    for host in ("node1", "node2"):
        good(cli(state, "disk", host))
    good(cli(state, "disk", "--selector", "rack=a", "--out", tmp_path / "batch", "--shared-base"))
    return tmp_path / "batch"


@pytest.fixture(params=["coreutils", "busybox"])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """How a station runs the script."""
    if request.param == "coreutils":
        return ["/bin/sh"]
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dd", "cmp", "sha256sum", "head", "wc", "dirname", "blockdev", "readlink", "cat"):
        (programs / name).symlink_to("/usr/bin/busybox")
    return ["/usr/bin/env", "-i", f"PATH={programs}", "/usr/bin/busybox", "sh"]


def disk(path: Path, size: int = ROOM) -> Path:
    """A disk that was used before."""
    path.write_bytes(b"\xaa" * size)
    return path


def write(tools: list[str], batch: Path, host: str, device: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [*tools, str(batch / "write-disk"), host, str(device), *(more or ("--yes",))]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def refused(tools: list[str], batch: Path, device: Path, words: str, host: str = "node1") -> None:
    before = device.read_bytes() if device.is_file() else b""
    ran = write(tools, batch, host, device)
    assert ran.returncode != 0 and words in ran.stderr and ran.stdout == ""
    assert (device.read_bytes() if device.is_file() else b"") == before, "nothing was written"


def test_each_host_s_disk_comes_of_it(batch: Path, tmp_path: Path, tools: list[str]) -> None:
    for host in ("node1", "node2"):
        device = disk(tmp_path / "device")
        ran = write(tools, batch, host, device)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout == f"{host} is on {device}, and was read back\n"
        image = (tmp_path / f"{host}.img").read_bytes()
        assert device.read_bytes() == image + b"\xaa" * (ROOM - len(image))


def test_without_a_yes_nothing_is_written(batch: Path, tmp_path: Path, tools: list[str]) -> None:
    device = disk(tmp_path / "device")
    for answer in ("", "n\n", "yes\n"):
        command = [*tools, str(batch / "write-disk"), "node1", str(device)]
        ran = subprocess.run(command, capture_output=True, text=True, input=answer, check=False)
        assert ran.returncode == 1 and ran.stderr == "write-disk: nothing was written\n"
        assert device.read_bytes() == b"\xaa" * ROOM


def test_only_patches_are_secret_and_they_are_small(batch: Path) -> None:
    (base,) = batch.glob("base-*.img")
    assert CANARY not in base.read_bytes()
    patch = batch / "node1.patch"
    assert CANARY in patch.read_bytes() and patch.stat().st_size < 64 * 1024
    assert patch.stat().st_mode & 0o777 == 0o600
    assert CANARY not in patch.read_bytes()[:HEADER]
    assert os.access(batch / "write-disk", os.X_OK)
    manifest = json.loads((batch / "manifest.json").read_text())
    assert [row["file"] for row in manifest["hosts"]] == ["node1.patch", "node2.patch"]
    for row in manifest["hosts"]:
        assert hashlib.sha256((batch / row["file"]).read_bytes()).hexdigest() == row["sha256"]


def test_what_is_damaged_is_refused_before_anything_is_written(batch: Path, tmp_path: Path, tools: list[str]) -> None:
    device, patch = disk(tmp_path / "device"), batch / "node1.patch"
    whole = patch.read_bytes()
    refused(tools, batch, device, "the batch has no disk for node9", "node9")
    patch.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(tools, batch, device, "is damaged; copy it again")
    patch.write_bytes((batch / "node2.patch").read_bytes())
    refused(tools, batch, device, "is not a disk patch of node1")
    patch.write_bytes(whole[: HEADER - 100])
    refused(tools, batch, device, "damaged")
    patch.write_bytes(whole)
    refused(tools, batch, disk(tmp_path / "small", 1 << 20), "use a larger disk")
    refused(tools, batch, tmp_path / "absent", "is not a disk")
    (base,) = batch.glob("base-*.img")
    base.write_bytes(base.read_bytes()[:-1] + b"x")
    refused(tools, batch, device, "is damaged; copy it again")
    base.unlink()
    refused(tools, batch, device, "copy the whole batch")


def test_it_asks_first(batch: Path, tmp_path: Path, tools: list[str]) -> None:
    device = disk(tmp_path / "device")
    command = [*tools, str(batch / "write-disk"), "node1", str(device)]
    ran = subprocess.run(command, capture_output=True, text=True, input="n\n", check=False)
    assert ran.returncode != 0 and "nothing was written" in ran.stderr
    assert device.read_bytes() == b"\xaa" * ROOM
    ran = subprocess.run(command, capture_output=True, text=True, input="y\n", check=False)
    assert ran.returncode == 0 and device.read_bytes() != b"\xaa" * ROOM


def test_a_base_that_is_there_is_not_written_again(state: Path, batch: Path) -> None:
    (base,) = batch.glob("base-*.img")
    inode = base.stat().st_ino
    good(cli(state, "disk", "--selector", "rack=a", "--out", batch, "--shared-base"))
    assert base.stat().st_ino == inode
    base.write_bytes(b"cut short")
    good(cli(state, "disk", "--selector", "rack=a", "--out", batch, "--shared-base"))
    assert base.stat().st_size > 1 << 20


def test_who_was_denied_is_named(state: Path, tmp_path: Path) -> None:
    good(cli(state, "disk", "--selector", "rack=a", "--out", tmp_path / "batch", "--shared-base"))
    good(cli(state, "credential", "remove", "node2", "token"))
    ran = cli(state, "disk", "--selector", "rack=a", "--out", tmp_path / "batch", "--shared-base")
    assert ran.code == Exit.DENIED
    rows = {row["host"]: row for row in json.loads((tmp_path / "batch" / "manifest.json").read_text())["hosts"]}
    assert rows["node2"]["decision"] == "denied" and "token" in rows["node2"]["reason"]
    assert (tmp_path / "batch" / "node1.patch").is_file() and not (tmp_path / "batch" / "node2.patch").exists()


@pytest.mark.parametrize("words", [("node1",), ("--selector", "rack=a"), ("--selector", "rack=a", "--format", "qcow2")])
def test_it_is_for_batches(state: Path, words: tuple[str, ...]) -> None:
    ran = cli(state, "disk", *words, "--shared-base")
    assert ran.code == 2 and "--shared-base" in ran.err
