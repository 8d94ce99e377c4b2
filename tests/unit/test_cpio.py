"""newc archives: read back by our reader and by GNU cpio, which knows nothing of us."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision import cpio
from provision.errors import Invalid
from provision.proc import run

TREE = cpio.tree(
    [
        cpio.file("seed/root/etc/hostname", b"node7\n"),
        cpio.file("seed/root/etc/krb5.keytab", b"\x05\x02secret", 0o600),
        cpio.file("seed/root/etc-x", b""),
        cpio.symlink("seed/root/link", "etc/hostname"),
        cpio.directory("seed", 0o700),
    ]
)


def test_parents_come_before_their_files_and_siblings_sort() -> None:
    assert [entry.path for entry in TREE] == [
        "seed",
        "seed/root",
        "seed/root/etc",
        "seed/root/etc/hostname",
        "seed/root/etc/krb5.keytab",
        "seed/root/etc-x",
        "seed/root/link",
    ]
    assert stat.S_IMODE(TREE[0].mode) == 0o700
    assert stat.S_IMODE(TREE[1].mode) == 0o755


def test_members_are_roots_with_fixed_times_and_numbers() -> None:
    members = list(cpio.read(io.BytesIO(cpio.pack(TREE, mtime=1_700_000_000))))
    assert [(m.path, m.mode, m.data) for m in members] == [(e.path, e.mode, e.data) for e in TREE]
    assert {(m.uid, m.gid, m.links, m.mtime) for m in members} == {(0, 0, 1, 1_700_000_000)}
    assert [m.inode for m in members] == list(range(1, len(TREE) + 1))


@given(st.dictionaries(st.text("abcXYZ.09", min_size=1, max_size=12).filter(lambda s: s.strip(".")), st.binary()))
def test_whatever_is_packed_is_read_back(contents: dict[str, bytes]) -> None:
    entries = cpio.tree(cpio.file(f"d/{name}", data) for name, data in contents.items())
    archive = cpio.pack(entries)
    assert len(archive) % cpio.BLOCK == 0
    assert [(m.path, m.data) for m in cpio.read(io.BytesIO(archive))] == [(e.path, e.data) for e in entries]
    assert archive == cpio.pack(entries)


def test_the_reader_stops_behind_the_trailer_so_that_archives_can_follow() -> None:
    stream = io.BytesIO(cpio.pack([cpio.file("a", b"1")]) + cpio.pack([cpio.file("b", b"2")]))
    assert [m.path for m in cpio.read(stream)] == ["a"]
    rest = stream.read().lstrip(b"\0")
    assert [m.path for m in cpio.read(io.BytesIO(rest))] == ["b"]


@pytest.mark.parametrize(
    ("entries", "fact"),
    [
        ([cpio.file("a/b", b"")], "before its directory"),
        ([cpio.file("a", b""), cpio.file("a/b", b"")], "before its directory"),
        ([cpio.file("/a", b"")], "not relative"),
        ([cpio.file("../a", b"")], "not relative"),
        ([cpio.directory("a"), cpio.file("a/./b", b"")], "not relative"),
        ([cpio.file("a", b""), cpio.file("a", b"")], "twice"),
        ([cpio.file("TRAILER!!!", b"")], "reserved"),
    ],
)
def test_an_archive_that_the_kernel_would_misread_is_not_written(entries: list[cpio.Entry], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        cpio.pack(entries)


@pytest.mark.parametrize("cut", [1, 50, 111, 200, 700])
def test_a_truncated_archive_is_named(cut: int) -> None:
    archive = cpio.pack([cpio.file("a", bytes(600))])
    with pytest.raises(Invalid, match=r"initrd0: ends before its cpio trailer"):
        list(cpio.read(io.BytesIO(archive[:cut]), "initrd0"))


@pytest.mark.parametrize("damage", [b"070702", b"07070z", b"070701" + b"x" * 8])
def test_a_damaged_header_is_named(damage: bytes) -> None:
    archive = cpio.pack([cpio.file("a", b"1")])
    with pytest.raises(Invalid, match="initrd0: "):
        list(cpio.read(io.BytesIO(damage + archive[len(damage) :]), "initrd0"))


def test_entries_do_not_show_their_data() -> None:
    assert "secret" not in repr(TREE)


@pytest.mark.integration
def test_gnu_cpio_lists_and_extracts_it(tmp_path: Path) -> None:
    archive = cpio.pack(TREE)
    listing = run(["cpio", "-itvn", "--quiet"], package="cpio", stdin=archive).stdout.decode().splitlines()
    columns = [line.split() for line in listing]
    assert [(c[0], c[1], c[2], c[3]) for c in columns if c[8].endswith("keytab")] == [("-rw-------", "1", "0", "0")]
    assert [c[8] for c in columns] == [entry.path for entry in TREE]
    run(["cpio", "-i", "--quiet", "--no-preserve-owner"], package="cpio", stdin=archive, cwd=tmp_path)
    assert (tmp_path / "seed/root/etc/krb5.keytab").read_bytes() == b"\x05\x02secret"
    assert stat.S_IMODE((tmp_path / "seed/root/etc/krb5.keytab").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "seed").stat().st_mode) == 0o700
    assert (tmp_path / "seed/root/link").readlink() == Path("etc/hostname")
