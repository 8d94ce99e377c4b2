"""The day an archive replaces a locked package: strict builds say so, all others go on, and what was fetched stays."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Invalid, Unavailable
from provision.image import build as builder
from provision.image import lock, media
from provision.image.build import Request
from provision.image.cache import Cache
from provision.image.tree import Node
from provision.image.versions import Versions
from tests.helpers.archive import Archive
from tests.helpers.image_samples import TOP, file, module

RECIPE = """\
name: tiny
packages: [kernel, tools]
initramfs: {modules: [squashfs], applets: [sh]}
squashfs: {compression: zstd, block: 128, level: 1}
"""
KERNEL = [
    file("boot/vmlinuz-6.1", b"kernel"),
    *(file(f"{TOP}/modules.{name}", b"", 0o644) for name in ("builtin", "builtin.modinfo", "order")),
    module("fs/squashfs"),
    file("usr/share/doc/kernel/copyright", "Everybody may.\n", 0o644),
]


def tools(text: str) -> list[Node]:
    return [file("usr/bin/busybox", "busy\0sh\0"), file("usr/bin/tool", text)]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Two packages, of which one needs a third, and an APT that has read of them."""
    made = Archive(tmp_path / "archive")
    made.add("kernel", "6.1-1", KERNEL)
    made.add("library", "2-1", [file("usr/share/library", "2", 0o644)])
    made.add("tools", "1-1", tools("one"), depends="library")
    made.update()
    monkeypatch.setenv("APT_CONFIG", str(made.configuration))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def request_(archive: Archive, tmp_path: Path) -> Request:
    """Of a recipe whose lock has the first versions; nothing is fetched yet."""
    recipe = tmp_path / "recipe" / "recipe.yaml"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE)
    first = builder.locked(Request(recipe, versions=Versions.TODAY, cache=tmp_path / "other"))
    assert [(p.name, p.version) for p in first.packages] == [("kernel", "6.1-1"), ("library", "2-1"), ("tools", "1-1")]
    lock.write(first, recipe.parent / "lock.json")
    return Request(recipe, versions=Versions.OBTAINABLE, cache=tmp_path / "cache" / "provision" / "image")


def built(request: Request) -> tuple[dict[str, str], list[str]]:
    """The versions in an image, and what was said."""
    said: list[str] = []
    image = builder.build(request, say=said.append)
    report = json.loads((image.directory / "report.json").read_text())
    return {package["name"]: package["version"] for package in report["packages"] if package["version"]}, said


def test_the_lock_is_taken_while_its_versions_can_be_had(archive: Archive, request_: Request) -> None:
    archive.add("tools", "1-2", tools("newer"), depends="library")
    archive.update()
    assert built(request_) == ({"kernel": "6.1-1", "library": "2-1", "tools": "1-1"}, [])


def test_todays_are_taken_when_one_is_gone_and_said_and_kept(
    archive: Archive, request_: Request, tmp_path: Path
) -> None:
    locked = (tmp_path / "recipe" / "lock.json").read_bytes()
    archive.replace("tools", "1-1", "1-2", tools("two"), depends="library")
    archive.update()
    with pytest.raises(Unavailable, match=r"Version '1-1' for 'tools' was not found; .* --allow-newer"):
        builder.build(replace(request_, versions=Versions.LOCKED))
    versions, said = built(request_)
    assert versions == {"kernel": "6.1-1", "library": "2-1", "tools": "1-2"}
    assert len(said) == 1 and "1 of its 3 versions are gone from the archive (tools 1-1); taking today's" in said[0]
    assert (tmp_path / "recipe" / "lock.json").read_bytes() == locked, "the shipped lock stays as it is"
    kept = Path(said[0].rpartition(" ")[2])
    assert kept.is_relative_to(tmp_path / "cache") and {
        p.version for p in lock.read(kept, ["kernel", "tools"]).packages
    }
    archive.replace("library", "2-1", "2-2")
    archive.update()
    assert built(request_) == (versions, said), "what was resolved once is taken until the shipped lock changes"


def test_lists_that_are_older_than_the_archive_do_not_matter(archive: Archive, request_: Request) -> None:
    archive.replace("tools", "1-1", "1-2", tools("two"), depends="library")
    with pytest.raises(Unavailable):
        builder.build(replace(request_, versions=Versions.LOCKED))
    versions, said = built(request_)
    assert versions["tools"] == "1-2" and len(said) == 1
    lists = [path.read_text() for path in (archive.directory / "state" / "lists").glob("*_Packages")]
    assert len(lists) == 1 and "tools_1-1_all" in lists[0], "the machine's own lists are not touched"


@pytest.mark.parametrize("gone", [False, True])
def test_what_was_fetched_once_is_enough_without_an_archive(archive: Archive, request_: Request, gone: bool) -> None:
    if gone:
        archive.replace("tools", "1-1", "1-2", tools("two"), depends="library")
        archive.update()
    before = built(request_)
    archive.vanish()
    assert built(request_) == before


@pytest.mark.timeout(120)
@pytest.mark.parametrize("gone", [False, True])
def test_an_image_that_is_there_waits_for_no_other_build(archive: Archive, request_: Request, gone: bool) -> None:
    if gone:
        archive.replace("tools", "1-1", "1-2", tools("two"), depends="library")
        archive.update()
    before = built(request_)
    assert request_.cache is not None
    with Cache(request_.cache).locked():
        assert built(request_) == before
        if not gone:
            assert built(replace(request_, versions=Versions.LOCKED)) == before
    assert (len(before[1]) == 1) is gone


def test_without_an_archive_and_with_nothing_fetched_the_reason_is_said(archive: Archive, request_: Request) -> None:
    archive.vanish()
    with pytest.raises(Unavailable, match="look at the network"):
        built(request_)


def test_a_build_of_todays_is_reproduced_with_what_it_took(
    archive: Archive, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two builds of one verification the archive may change again."""
    archive.replace("tools", "1-1", "1-2", tools("two"), depends="library")
    archive.update()
    real = builder._built
    seen: list[Any] = []

    def changing(job: Any, progress: Any) -> Any:
        made = real(job, progress)
        seen.append(job)
        if len(seen) == 1:
            archive.replace("tools", "1-2", "1-3", tools("three"), depends="library")
            archive.update()
        return made

    monkeypatch.setattr(builder, "_built", changing)
    monkeypatch.setattr(media, "media", lambda *given: {})
    builder.verify(request_)
    assert [job.locked for job in seen] == [seen[0].locked] * 2


def test_another_content_under_a_locked_version_is_never_taken_for_it(archive: Archive, request_: Request) -> None:
    archive.replace("tools", "1-1", "1-0", tools("none"))
    archive.replace("tools", "1-0", "1-1", tools("another"), depends="library")
    archive.update()
    with pytest.raises(Invalid, match=r"tools: the file of 1-1 has SHA-256 .*, the lock"):
        builder.build(replace(request_, versions=Versions.LOCKED))
    assert "(tools 1-1)" in built(request_)[1][0]


def test_the_command_line_has_both(archive: Archive, request_: Request) -> None:
    archive.replace("tools", "1-1", "1-2", tools("two"), depends="library")
    archive.update()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "provision", "image", "build", "--recipe", str(request_.recipe), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120)

    strict = run()
    assert strict.returncode != 0 and "give --allow-newer" in strict.stderr
    found = run("--allow-newer")
    assert found.returncode == 0, found.stderr
    (note,) = (line for line in found.stderr.splitlines() if line.startswith("note: "))
    assert "(tools 1-1)" in note
    both = run("--allow-newer", "--update-lock")
    assert both.returncode != 0 and "contradicts --update-lock" in both.stderr
