"""What a recipe says of one release, and where its lock is."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from provision import assets
from provision.errors import Conflict, Invalid, NotFound, Problems
from provision.image import lock, platforms, recipe, releases
from provision.image.packages import Package
from provision.image.recipe import Scope

TEXT = b"""\
name: tiny
packages:
  - both
  - debian-13: [new, debian-14: [never]]
  - debian-12: old
rules:
  files:
    - drop: [/a]
    - debian-13:
        - keep: [/b, debian-12: [/no]]
        - drop: [/c]
links:
  /both: x
  debian-13: {/new: y}
"""


def test_a_recipe_holds_what_is_of_its_release_and_knows_the_lines() -> None:
    new = recipe.parse(TEXT, "r.yaml", Path(), "debian-13")
    assert new.recipe.packages == ("both", "new") and new.recipe.links == {"/both": "x", "/new": "y"}
    rules = [(str(rule.action), rule.pattern, rule.line) for rule in new.rules(Scope.FILES)]
    assert rules == [("drop", "/a", 8), ("keep", "/b", 10), ("drop", "/c", 11)]
    old = recipe.parse(TEXT, "r.yaml", Path(), "debian-12")
    assert old.recipe.packages == ("both", "old") and old.recipe.links == {"/both": "x"}
    assert recipe.parse(TEXT, "r.yaml", Path()).recipe.packages == ("both",)


def test_a_mistake_in_it_has_its_line() -> None:
    with pytest.raises(Problems, match=r"r.yaml:10: "):
        recipe.parse(TEXT.replace(b"keep: [/b,", b"keeps: [/b,"), "r.yaml", Path(), "debian-13")


def test_a_platform_has_such_lists_too() -> None:
    text = b"name: p\nextra: [a, debian-13: [b]]\nmodules: {debian-12: {c: []}}\n"
    new, _ = platforms.parse(text, "p.yaml", "debian-13")
    old, _ = platforms.parse(text, "p.yaml", "debian-12")
    assert (new.extra, list(new.modules)) == (("a", "b"), []) and (old.extra, list(old.modules)) == (("a",), ["c"])


def test_each_release_has_its_lock(tmp_path: Path) -> None:
    assert releases.lock_file(tmp_path, "debian-12") == tmp_path / "lock.json"
    for name in ("debian-12", "debian-13"):
        (tmp_path / name).mkdir()
    assert releases.lock_file(tmp_path, "debian-13") == tmp_path / "debian-13" / "lock.json"
    with pytest.raises(NotFound, match=r"debian-14: is not a release .*; choose one with --release: 12, 13"):
        releases.lock_file(tmp_path, "debian-14")


def test_releases_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert releases.named("12") == releases.named("debian-12") == "debian-12"
    for wrong in ("", "trixie", "12.1", "../12", "ubuntu-24"):
        with pytest.raises(Invalid, match="is not a release of Debian"):
            releases.named(wrong)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian", "VERSION_ID": "13"})
    assert releases.of_machine() == "debian-13"
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian"})
    with pytest.raises(NotFound, match="name Debian's with --release"):
        releases.of_machine()


def test_packages_of_another_release_are_refused() -> None:
    found = [Package("base-files", "13.8+deb13u1", "amd64", "a" * 64, 1), Package("z", "12", "all", "b" * 64, 1)]
    releases.check(found, "debian-13")
    releases.check(found[1:], "debian-13")
    releases.check(found, "")
    with pytest.raises(Conflict, match="packages: are of Debian 13, but the image is for Debian 12"):
        releases.check(found, "debian-12")


@pytest.mark.parametrize("release", ["debian-12", "debian-13"])
def test_the_shipped_recipe_has_a_lock_of_its_own_for_each_release(release: str) -> None:
    path = assets.directory("images") / "host" / "recipe.yaml"
    loaded = recipe.load(path, release)
    locked = lock.read(releases.lock_file(path.parent, release), loaded.recipe.packages)
    releases.check(locked.packages, release)
    assert "base-files" in {package.name for package in locked.packages}
    for name in ("common", "q35"):
        assert platforms.narrowed(loaded, platforms.find(name, path)).release == release
