"""Trees of files: their paths, whose file wins, and archives that are read in place."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from provision.errors import Invalid, NotFound
from provision.image import tree
from provision.image.tree import Slice, Tree
from tests.helpers.image_samples import file, link


def test_paths_are_followed() -> None:
    assert tree.follow("usr/lib/a/b", "../c") == "usr/lib/c"
    assert tree.follow("usr/bin/x", "/bin/y") == "usr/bin/y"
    assert tree.follow("a", "../../b/./c/../d") == "b/d"
    found = Tree([link("a", "b/c"), link("b", "/d"), file("d/c"), link("l", "m"), link("m", "l")])
    assert found.walk("a") == ("d/c", ["a", "b"])
    assert found.is_directory("d") and not found.is_directory("a")
    assert found.below("d") == ["d/c"] and found.below("") == ["a", "b", "l", "m"]
    with pytest.raises(NotFound, match="circle"):
        found.walk("l")


def test_two_packages_with_one_path_are_refused_and_own_files_win() -> None:
    with pytest.raises(Invalid, match="/a is in one and in two"):
        Tree([file("a", "1", source="one"), file("a", "2", source="two")])
    own = tree.file("a", b"mine")
    for nodes in ([own, file("a", "1")], [file("a", "1"), own]):
        assert Tree(nodes)["a"].content.read() == b"mine"
    assert len(Tree([tree.directory("d"), tree.directory("d", source="x")])) == 1


def test_an_archive_is_read_in_place(tmp_path: Path) -> None:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, target in (("./bin/", tarfile.DIRTYPE, ""), ("./bin/su", tarfile.REGTYPE, "")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o4755
            member.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, BytesIO(b"abc"))
        for name, kind, target in (
            ("./bin/hard", tarfile.LNKTYPE, "./bin/su"),
            ("./sbin/s", tarfile.SYMTYPE, "/bin/su"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    path = tmp_path / "a.tar"
    path.write_bytes(stream.getvalue())
    rows = {row[0]: row[1:] for row in json.loads(tree._index(path))}
    assert set(rows) == {"usr/bin/su", "usr/bin/hard", "usr/sbin/s"}
    assert rows["usr/bin/su"][0] == 0o100755, "no set-user-id"
    assert Slice(path, rows["usr/bin/hard"][1], rows["usr/bin/hard"][2]).read() == b"abc"
    assert rows["usr/sbin/s"][3] == "/usr/bin/su"
