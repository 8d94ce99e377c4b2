"""Packing: a tree of any build gives the same bytes, and what was packed reads back."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from provision import cpio
from provision.errors import Invalid
from provision.image import assemble, modules, tree
from provision.image.cache import Cache
from provision.image.recipe import Early, Squashfs
from provision.image.tree import Node, Tree
from tests.helpers.image_samples import TOP, file, link, module


def sample() -> dict[str, Node]:
    long = f"usr/share/{'d' * 90}/{'f' * 90}"
    kept = [file("usr/bin/x", b"x" * 5000), file(long, "long", 0o640), link("usr/bin/y", "x"), file("etc/empty", "")]
    known = Tree([tree.directory("usr/share", 0o750), *kept])
    return assemble.complete({node.path: node for node in kept}, known, {"/tmp".strip("/"): "1777"})


def test_directories_are_as_packages_have_them_and_come_first() -> None:
    found = sample()
    assert list(found)[:3] == ["etc", "etc/empty", "tmp"]
    assert oct(found["usr/share"].mode) == "0o40750" and oct(found["tmp"].mode) == "0o41777"
    with pytest.raises(Invalid, match="/a: is a file and has files below it"):
        assemble.complete({"a": file("a"), "a/b": file("a/b")}, {}, {})


@pytest.mark.parametrize("how", [Squashfs(), Squashfs(compression="zstd", block=128, level=3)])
def test_a_squashfs_is_the_same_every_time_and_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Squashfs
) -> None:
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        monkeypatch.setenv("TZ", zone)
        assemble.squashfs(sample().values(), how, tmp_path / f"{number}.squashfs")
    first = tmp_path / "0.squashfs"
    assert first.read_bytes() == (tmp_path / "1.squashfs").read_bytes()
    argv = ["unsquashfs", "-lln", "-d", "", str(first)]
    listing = subprocess.run(
        argv, capture_output=True, text=True, check=True, env={"TZ": "UTC", "PATH": "/usr/bin:/usr/sbin"}
    )
    lines = {line.split(maxsplit=5)[-1]: line.split() for line in listing.stdout.splitlines() if line[:1] in "dl-"}
    assert lines["/usr/bin/x"][:3] == ["-rwxr-xr-x", "0/0", "5000"] and lines["/tmp"][0] == "drwxrwxrwt"
    assert lines["/usr/share"][0] == "drwxr-x---" and "/usr/bin/y -> x" in lines
    assert {tuple(line[3:5]) for line in lines.values()} == {("2020-01-01", "00:00")}
    shown = subprocess.run(["unsquashfs", "-cat", str(first), "usr/bin/x"], capture_output=True, check=True)
    assert shown.stdout == b"x" * 5000


def test_early_files_are_packed_apart(tmp_path: Path) -> None:
    nodes, early = tuple(sample().values()), Early(files=("/usr/bin/[xy]",))
    assemble.root(nodes, Squashfs(), early, tmp_path / "two")
    assemble.root(nodes, Squashfs(), None, tmp_path / "one")
    assemble.root(nodes, Squashfs(), Early(files=("/none",)), tmp_path / "idle")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "idle").read_bytes()
    listed = {}
    for member in cpio.read(io.BytesIO((tmp_path / "two").read_bytes())):
        (tmp_path / member.path).write_bytes(member.data)
        argv = ["unsquashfs", "-lln", "-d", "", str(tmp_path / member.path)]
        lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
        listed[member.path] = {line.split(maxsplit=5)[-1]: line.split()[0] for line in lines if line[:1] in "dl-"}
    root, apart = listed["root.squashfs"], listed["early.squashfs"]
    assert {path for path, mode in apart.items() if mode[0] != "d"} == {"/usr/bin/x", "/usr/bin/y -> x"}
    assert not {path for path, mode in root.items() if mode[0] != "d"} & apart.keys()
    directories = {path: mode for path, mode in apart.items() if mode[0] == "d"}
    assert directories.items() <= root.items() and len(root) > 4


def test_the_initrd_is_the_initramfs_and_the_root(tmp_path: Path) -> None:
    kept = {"usr/bin/busybox": file("usr/bin/busybox", "busy")}
    kept |= {path: file(path, text) for path, text in (("etc/passwd", "kvm:x:1:1\n"), ("etc/group", "kvm:x:2:\n"))}
    ko = module("fs/squashfs")
    packed = assemble.initramfs(kept, ["sh", "awk"], [ko], [tree.file("init", b"#!", 0o755)])
    whole = assemble.initrd(packed, cpio.pack([cpio.file("root.squashfs", b"hsqs")]))
    assert packed[:6] == b"\xfd7zXZ\0" and len(whole) % cpio.BLOCK == 0
    start = -(-len(packed) // cpio.BLOCK) * cpio.BLOCK
    [root] = cpio.read(io.BytesIO(whole[start:]))
    assert (root.path, root.data) == ("root.squashfs", b"hsqs")
    unpacked = subprocess.run(["xz", "-dc"], input=packed, capture_output=True, check=True).stdout
    entries = {member.path: member for member in cpio.read(io.BytesIO(unpacked))}
    busybox = "handed/usr/bin/busybox"
    assert entries["modules/order"].data == f"/handed/{ko.path}\n".encode() and entries["bin/sh"].data == b"busybox"
    assert entries["bin/busybox"].data == f"/{busybox}".encode() and entries[busybox].mode & 0o777 == 0o755
    handed = {entry.path: entry.data for entry in assemble.handed(packed + bytes(3))}
    assert handed == {"usr/bin/busybox": b"busy", ko.path: ko.content.read()}
    with pytest.raises(Invalid, match="does not begin with an initramfs"):
        list(assemble.handed(b"070701" * 9))
    assert entries["etc/provision-seed-contract"].data == b"1\n" and entries["init"].mode & 0o111
    assert entries["etc/provision-seed-passwd"].data == b"kvm:x:1:1\n"
    assert entries["etc/provision-seed-group"].data == b"kvm:x:2:\n"


def test_modules_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    nodes = [
        module("a", depends="b,c"),
        module("b", depends="d"),
        module("c", softdep="pre: s"),
        module("d"),
        module("s"),
    ]
    kernel = [file("boot/vmlinuz-6.1"), file(f"{TOP}/modules.builtin", "kernel/x/aes.ko\n")]
    found = modules.read(Tree([*kernel, *nodes]), Cache(tmp_path))
    order = [modules.name_of(path) for path in assemble.load_order(["a", "aes"], found)]
    assert order == ["d", "b", "s", "c", "a"]
    with pytest.raises(Invalid, match="gone: is not a module of this kernel"):
        list(assemble.load_order(["gone"], found))
    with pytest.raises(Invalid, match="hold 0 kernels instead of one"):
        modules.read(Tree(nodes), Cache(tmp_path))


def test_what_is_packed_together_is_handed_over_by_an_archive_of_its_own() -> None:
    nodes = [file("usr/bin/x", b"x" * 5000), file("usr/lib/y", "y", 0o640)]
    packed = assemble.together(nodes)
    assert assemble.together(nodes) == packed and assemble.together([]) == b""
    found = [(entry.path, entry.data, entry.mode & 0o7777) for entry in assemble.handed(packed)]
    assert found == [("usr/bin/x", b"x" * 5000, 0o755), ("usr/lib/y", b"y", 0o640)]
