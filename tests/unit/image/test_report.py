"""Locks, reports, their page, and what is different between two of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Invalid, NotFound, Unavailable
from provision.image import assemble, bom, diff, lock, page, report, selection
from provision.image.closure import close
from provision.image.gather import Gathered
from provision.image.lock import Lock
from provision.image.packages import Package
from provision.image.tree import Tree
from tests.helpers import image_samples
from tests.helpers.image_samples import file

ABOUT = {
    "name": "tiny",
    "version": "1",
    "id": "a" * 64,
    "kernel_version": "6.1",
    "root_size": 1000,
    "root_files": 3,
    "files": {"vmlinuz": {"size": 10, "sha256": "b"}, "initrd": {"size": 1100, "sha256": "c"}},
}
PACKAGES = (Package("tiny", "1:2", "amd64", "a" * 64, 5), Package("big", "3", "all", "b" * 64, 6))
LOCK = Lock(("tiny",), tuple(sorted(PACKAGES)), {"mksquashfs": "4.5.1"})
ORIGINS = {
    p.name: {
        "architecture": p.architecture,
        "sha256": p.sha256,
        "source": {"name": "all", "version": "1"},
        "licences": None if p.name == "big" else ["Expat", "a <licence> of its own"],
    }
    for p in PACKAGES
}
RULES = "rules:\n  files:\n    - needed: [/b]\n    - drop: [/c, /gone]\nreport_groups: {small: [ti*]}\n"


def made(scratch: Path, *more: Any, handed: frozenset[str] = frozenset()) -> Any:
    nodes = [file("a", "a" * 100), file("b"), file("c", "x" * 50), file("d", "<b>", source="big"), *more]
    rules = image_samples.loaded(RULES)
    around, decisions = image_samples.around(nodes, rules, scratch)
    closure = close(around, decisions)
    kept = {path: around.tree[path] for path in closure.kept if not path.startswith(("boot/", "usr/lib/modules"))}
    chosen = selection.select(around.tree, rules)
    nodes_of = assemble.complete(kept, around.tree, {})
    gathered = Gathered(nodes_of, Tree(around.tree.values()), chosen, closure, around.modules, handed)
    return report.report(ABOUT, rules, LOCK, gathered, ORIGINS, ["xz is 5.4 here and 5.2 in the lock"])


def test_every_byte_belongs_to_a_group_and_every_path_to_a_reason(tmp_path: Path) -> None:
    found = made(tmp_path)
    groups = {group["name"]: group["packed"] for group in found["groups"]}
    assert groups["kernel"] == 10 and groups["initramfs"] == 100
    assert abs(sum(groups.values()) - 1110) <= 2 and groups["small"] > 0
    assert [row["path"] for row in found["files"]] == ["/a", "/d"]
    dropped = {entry["rule"]: entry["paths"] for entry in found["dropped"]}
    assert dropped["'drop /c' (recipe.yaml:6)"] == ["/c"]
    assert dropped["'needed /b' (recipe.yaml:5): nothing needs it"] == ["/b"]
    assert found["idle_rules"] == ["'drop /gone' (recipe.yaml:6)"]
    assert {p["name"]: p["version"] for p in found["packages"]} == {"tiny": "1:2", "big": "3"}
    json.dumps(found)


def test_what_the_initramfs_hands_over_counts_there(tmp_path: Path) -> None:
    found = made(tmp_path, handed=frozenset({"a"}))
    packed = {row["path"]: row["packed"] for row in found["files"]}
    assert packed["/a"] == 0 and packed["/d"] == 1000
    assert {row["path"]: row["size"] for row in found["files"]}["/a"] == 100


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    found = made(tmp_path)
    found["packages"][0]["name"] = "<script>"
    text = page.page(found)
    reader = _Reader()
    reader.feed(text)
    assert reader.open == [] and reader.loads == []
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "Expat; a &lt;licence&gt; of its own" in text and "see its copyright file" in text and bom.FILE in text
    assert "xz is 5.4 here" in text and text.count("<rect") == len(found["groups"])


def test_what_is_different_is_named(tmp_path: Path) -> None:
    old = made(tmp_path)
    new = json.loads(json.dumps(made(tmp_path, file("e", "new"))))
    new["packages"][0]["version"] = "9"
    new["image"]["files"]["initrd"] = {"size": 1200, "sha256": "d"}
    changes = {(c.kind, c.name): (c.old, c.new, c.growth) for c in diff.diff(old, new)}
    assert changes[("size", "initrd")] == ("1100", "1200", 100)
    assert changes[("package", new["packages"][0]["name"])][1] == "9"
    assert changes[("file", "/e")][0] is None and changes[("file", "/e")][2] == 3
    assert len(changes) == 3 and diff.diff(old, old) == []


def test_reports_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="name a directory"):
        diff.load(tmp_path)
    for text in ("{", "[]", '{"format": 0}'):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(Invalid):
            diff.load(tmp_path)


def test_a_lock_reads_back_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    lock.write(LOCK, path)
    assert lock.read(path, ["tiny"]) == LOCK and list(tmp_path.iterdir()) == [path]
    assert len(path.read_text().splitlines()) == 9, "one line for each package"
    assert "://" not in path.read_text()
    with pytest.raises(Invalid, match="is not of this recipe: it lacks more and still has tiny; make it"):
        lock.read(path, ["more"])
    assert LOCK.differences({"mksquashfs": "4.6"}) == ["mksquashfs is 4.6 here and 4.5.1 in the lock"]
    assert LOCK.differences(LOCK.tools) == []


def test_a_lock_has_a_place_or_says_why_not(tmp_path: Path) -> None:
    lock.check_place(tmp_path / "new.json")
    with pytest.raises(Unavailable, match=r"lock.json: its directory does not exist; name another place with --lock"):
        lock.check_place(tmp_path / "none" / "lock.json")
    (tmp_path / "lock.json").mkdir()
    with pytest.raises(Unavailable, match=r"lock.json: cannot be written \(Is a directory\)"):
        lock.write(LOCK, tmp_path / "lock.json")
    assert [path.name for path in tmp_path.iterdir()] == ["lock.json"]


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "wanted": [], "packages": [], "tools": {}}'])
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="--update-lock"):
        lock.parse(text.encode(), "lock.json")


def test_the_tools_of_this_machine_have_versions() -> None:
    found = lock.tool_versions()
    assert set(found) == {"depmod", "ldconfig", "mksquashfs", "xz"}
    assert all(version[0].isdigit() for version in found.values())
