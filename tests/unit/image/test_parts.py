"""Accounts, enabled units, the cache and trees: the small parts of a build."""

from __future__ import annotations

import json
import lzma
import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from provision.errors import Invalid, NotFound
from provision.image import accounts, enable, needs_unit, packages, tree
from provision.image.cache import Cache, digest, user_cache
from provision.image.recipe import Recipe
from provision.image.tree import Slice, Tree
from tests.helpers.image_samples import file, link, loaded


def test_accounts() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "xx",
            "packages": ["aa"],
            "users": {"web": {"id": 33, "groups": ["kvm"]}, "daemon": {"id": 1, "home": "/var/d"}},
            "groups": {"kvm": 105},
        }
    )
    found = {node.path: node for node in accounts.files(recipe)}
    assert found["etc/passwd"].content.read().decode().splitlines() == [
        "root:x:0:0::/root:/bin/sh",
        "daemon:x:1:1::/var/d:/usr/sbin/nologin",
        "web:x:33:33::/nonexistent:/usr/sbin/nologin",
    ]
    assert found["etc/group"].content.read().decode().splitlines() == [
        "root:x:0:",
        "daemon:x:1:",
        "web:x:33:",
        "kvm:x:105:web",
    ]
    assert (
        found["etc/shadow"].content.read().startswith(b"root:*:::::::\n") and found["etc/shadow"].mode & 0o777 == 0o600
    )


def test_kernel_modules_are_unpacked(tmp_path: Path) -> None:
    stream, content = BytesIO(), b"\x7fELF" * 100
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in (("./lib/modules/6.12/kernel/a.ko.xz", lzma.compress(content)), ("./etc/b", b"b.ko.xz")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, BytesIO(data))
        member = tarfile.TarInfo("./lib/link")
        member.type, member.linkname = tarfile.SYMTYPE, "modules"
        archive.addfile(member)
    with tarfile.open(fileobj=BytesIO(packages.plain_modules(stream.getvalue()))) as plain:
        files = {m.name: f.read() for m in plain.getmembers() if m.isreg() and (f := plain.extractfile(m))}
        links = {m.name: m.linkname for m in plain.getmembers() if m.issym()}
    assert files == {"./lib/modules/6.12/kernel/a.ko": content, "./etc/b": b"b.ko.xz"}
    assert links == {"./lib/link": "modules"}
    without = b"any other package"
    assert packages.plain_modules(without) is without


UNITS = "usr/lib/systemd/system"


def test_units_are_enabled_as_systemctl_would() -> None:
    packages = Tree(
        [
            file(f"{UNITS}/a.service", "[Install]\nWantedBy=multi-user.target\nAlias=z.service\nAlso=b.socket\n"),
            file(f"{UNITS}/b.socket", "[Install]\nRequiredBy=sockets.target x.target\n"),
            file(f"{UNITS}/t@.service", "[Install]\nWantedBy=y.target\n"),
            file(f"{UNITS}/static.service", "[Service]\n"),
        ]
    )
    rules = loaded("units:\n  enable: [a.service, t@1.service]\n  mask: [m.service]\n")
    links, problems = enable.links(rules, packages)
    assert problems == []
    assert {node.path: node.content.read().decode() for node in links} == {
        "etc/systemd/system/multi-user.target.wants/a.service": f"/{UNITS}/a.service",
        "etc/systemd/system/z.service": f"/{UNITS}/a.service",
        "etc/systemd/system/sockets.target.requires/b.socket": f"/{UNITS}/b.socket",
        "etc/systemd/system/x.target.requires/b.socket": f"/{UNITS}/b.socket",
        "etc/systemd/system/y.target.wants/t@1.service": f"/{UNITS}/t@.service",
        "etc/systemd/system/m.service": "/dev/null",
    }
    _, problems = enable.links(loaded("units:\n  enable:\n    - static.service\n    - gone.service\n"), packages)
    assert [str(problem) for problem in problems] == [
        "recipe.yaml:5: units.enable.0: static.service cannot be enabled: it has no [Install] section",
        "recipe.yaml:6: units.enable.1: no package has gone.service; add the package, or leave the unit out",
    ]


def test_lines_of_a_unit() -> None:
    text = b"# c\n[Unit]\nA=1\n;B=2\n[Service]\nExecStart=/bin/x \\\n  y=1\nEmpty=\n"
    assert [(line.section, line.key, line.value) for line in needs_unit.lines(text)] == [
        ("Unit", "A", "1"),
        ("Service", "ExecStart", "/bin/x    y=1"),
        ("Service", "Empty", ""),
    ]


def test_the_cache_makes_once_and_leaves_nothing_of_a_failure(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    calls: list[int] = []

    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.made("kind", "key", fail)
    assert list((tmp_path / "kind").iterdir()) == []

    def succeed() -> str:
        calls.append(1)
        return "made"

    for _ in range(2):
        assert cache.text("kind", "key", succeed) == "made"
    assert calls == [1]


def test_the_cache_forgets_what_was_of_use_longest_ago_and_what_was_broken_off(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number, name in enumerate("abc"):
        cache.text("kind", name, lambda: "")
        os.utime(tmp_path / "kind" / name, (number, number))
    cache.text("kind", "a", lambda: "never")
    cache.prune("kind", 2)
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == ["a", "c"]
    (tmp_path / "kind" / "new-x").mkdir()
    with cache.locked():
        assert not (tmp_path / "kind" / "new-x").exists()


def test_the_cache_follows_the_user_s_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "provision"
    assert digest("a", {"b": 1}) == digest("a", {"b": 1}) != digest("a", {"b": 2})


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
