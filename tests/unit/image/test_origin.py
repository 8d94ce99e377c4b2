"""Source packages and licences of packages, from package files that are made here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from provision import proc
from provision.image import licences, tree
from provision.image.cache import Cache
from provision.image.origin import origins
from provision.image.packages import Package, pinned_path
from provision.image.tree import Tree

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"


def package(directory: Path, name: str, copyright_file: str | None, field: str = "", links: str = "") -> Package:
    """A package file in `directory`; its documentation is a link to that of the package `links`."""
    root = directory / f"root-{name}"
    documentation = root / "usr" / "share" / "doc"
    documentation.mkdir(parents=True)
    if links:
        (documentation / name).symlink_to(links)
    elif copyright_file is not None:
        (documentation / name).mkdir()
        (documentation / name / "copyright").write_text(copyright_file)
    (root / "DEBIAN").mkdir()
    said = f"Package: {name}\nVersion: 1:2-3\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n{field}"
    (root / "DEBIAN" / "control").write_text(f"{said}Description: nothing\n")
    made = directory / f"{name}.deb"
    proc.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, made], package="dpkg")
    found = Package(name, "1:2-3", "all", hashlib.sha256(made.read_bytes()).hexdigest(), made.stat().st_size)
    made.rename(pinned_path(found, directory))
    return found


def test_sources_and_licences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = [
        package(tmp_path, "plain", f"{FORMAT}Files: *\nCopyright: x\nLicense: Expat\n"),
        package(tmp_path, "part", None, "Source: whole (9.1)\n", links="plain"),
        package(tmp_path, "other", "Free to all.\n", "Source: whole\n"),
        package(tmp_path, "bare", None),
        package(tmp_path, "circle", None, links="circle"),
    ]
    cache = Cache(tmp_path / "cache")
    packages = Tree(tree.load(locked, tmp_path, cache))
    found = origins(locked, tmp_path, packages, cache)
    assert {name: (row["source"]["name"], row["source"]["version"]) for name, row in found.items()} == {
        "plain": ("plain", "1:2-3"),
        "part": ("whole", "9.1"),
        "other": ("whole", "1:2-3"),
        "bare": ("bare", "1:2-3"),
        "circle": ("circle", "1:2-3"),
    }
    assert {name: row["licences"] for name, row in found.items()} == {
        "plain": ["Expat"],
        "part": ["Expat"],
        "other": None,
        "bare": None,
        "circle": None,
    }
    assert (found["plain"]["architecture"], found["plain"]["sha256"]) == ("all", locked[0].sha256)
    # What is known of a package's file is not worked out again.
    monkeypatch.setattr(licences, "names", lambda text: pytest.fail("read again"))
    monkeypatch.setattr(proc, "run", lambda *words, **more: pytest.fail("run again"))
    assert origins(locked, tmp_path, packages, cache) == found
