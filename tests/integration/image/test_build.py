"""Whole builds of the host image, with quick compression: the same bytes anywhere, resumed after a break."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provision import assets
from provision.errors import Conflict, Invalid, Problems
from provision.image import build as builder
from provision.image import lock, releases
from provision.image.build import Image, Request, build, locked
from provision.image.cache import user_cache
from provision.media.initrd import CONTRACT, inspect_initrd
from tests.helpers.images import HOST, note

# With an empty cache the packages are fetched first, and compression is slow on a busy machine.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's recipe with quick compression, and a lock that every build from it takes."""
    directory = tmp_path_factory.mktemp("recipe") / "host"
    shutil.copytree(assets.directory("images") / "host", directory)
    path = directory / "recipe.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("\nsquashfs:")] + "\nsquashfs: {compression: zstd, level: 1, block: 128}\n")
    lock.write(locked(HOST, say=note), releases.lock_file(directory, releases.of_machine()))
    return path


@pytest.fixture(scope="module")
def built(recipe: Path) -> Image:
    """An image of it in the user's cache, so that packages are fetched once."""
    return build(Request(recipe))


def fresh(directory: Path) -> Path:
    """A cache that has packages and nothing else."""
    shutil.copytree(user_cache() / "image" / "packages", directory / "packages", copy_function=os.link)
    return directory


def test_another_place_time_zone_and_locale_give_the_same_bytes_and_so_does_verify(
    recipe: Path, built: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "somewhere else" / "host"
    shutil.copytree(recipe.parent, elsewhere)
    cache = fresh(tmp_path / "cache")
    for name, value in (("TZ", "Asia/Tokyo"), ("LC_ALL", "de_DE.UTF-8"), ("SOURCE_DATE_EPOCH", "1")):
        monkeypatch.setenv(name, value)
    seen: list[str] = []

    def interrupt(what: str, done: float) -> None:
        seen.append(what)
        if what == "packing the root file system":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(Request(elsewhere / "recipe.yaml", cache=cache), interrupt)
    assert list(cache.rglob("new-*")) == [] and not list((cache / "images").glob("*"))
    # What was built here is in the user's cache, so the build that is compared with it is the only one.
    seen.clear()
    request = Request(elsewhere / "recipe.yaml")
    assert builder.verify(request, lambda what, done: seen.append(what)) == built
    assert seen.count("again: packing the root file system") == 1 and "comparing the media" in seen
    assert "packing the root file system" not in seen
    names = sorted(path.name for path in built.directory.iterdir())
    assert names == ["bom.cdx.json", "image.json", "initrd", "lock.json", "report.html", "report.json", "vmlinuz"]
    seen.clear()
    assert build(request, lambda what, done: seen.append(what)) == built
    assert seen == ["reading the recipe", "done"]


def test_an_image_brings_its_lock_and_has_its_version_of_all_that_made_it(
    recipe: Path, built: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = builder.load(Request(recipe))
    brought = lock.read(built.directory / lock.FILE, loaded.recipe.packages)
    assert brought == lock.read(releases.lock_file(loaded.directory, loaded.release), loaded.recipe.packages)
    made = (loaded, brought, lock.tool_versions())
    assert builder.version_of(*made) == built.about["version"]
    # Two builders may make other bytes of the same packages, and two images of one version could not be published.
    monkeypatch.setattr(builder, "_code", lambda *modules: "another builder")
    assert builder.version_of(*made) != built.about["version"]


def test_the_image_takes_a_seed_and_has_no_secret(built: Image, tmp_path: Path) -> None:
    assert inspect_initrd(built.initrd, tmp_path).marker == CONTRACT
    report = json.loads((built.directory / "report.json").read_text())
    files = {row["path"]: row for row in report["files"]}
    assert files["/etc/machine-id"]["size"] == 0 and "/etc/krb5.keytab" not in files
    assert not [path for path in files if "ssh_host" in path or path.endswith(".key")]
    assert all(row["why"] for row in files.values()) and all(int(row["mode"], 8) < 0o2000 for row in files.values())
    sizes = {group["name"]: group["packed"] for group in report["groups"]}
    whole = sum(file["size"] for file in built.about["files"].values())
    assert abs(sum(sizes.values()) - whole) < 4096, "every byte belongs to a group"


def test_no_start_of_the_image_compiles_a_module(built: Image) -> None:
    files = {row["path"] for row in json.loads((built.directory / "report.json").read_text())["files"]}
    sources = {path for path in files if path.endswith(".py")}
    assert sources and {path.rpartition("/")[0] for path in sources} == {"/usr/lib/provision"}
    beside = {path.partition(".")[0] for path in files if path.startswith("/usr/lib/provision/__pycache__/")}
    assert beside == {path.replace("provision/", "provision/__pycache__/").removesuffix(".py") for path in sources}
    assert any(path.endswith("/json/__init__.pyc") for path in files)


def command(*words: str) -> Any:
    """What a command says as JSON."""
    argv = [sys.executable, "-m", "provision", "--json", "image", *words]
    done = subprocess.run(argv, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_commands(recipe: Path, built: Image, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("build", "--recipe", str(recipe), "-o", str(out))["id"] == built.about["id"]
    assert (out / "initrd").read_bytes() == built.initrd.read_bytes()
    assert command("diff", str(out), str(built.directory)) == []


def test_what_drops_a_needed_file_is_refused_by_name(recipe: Path, tmp_path: Path) -> None:
    broken = tmp_path / "host"
    shutil.copytree(recipe.parent, broken)
    path = broken / "recipe.yaml"
    rule = "    - drop: [/usr/lib/x86_64-linux-gnu/libvirt.so*]\n"
    path.write_text(path.read_text().replace("  python:\n", f"{rule}  python:\n", 1))
    with pytest.raises(Problems) as raised:
        build(Request(path))
    said = [str(problem) for problem in raised.value.problems]
    assert any("libvirt.so.0" in line and "/usr/bin/virsh" in line and "'keep /usr/bin/virsh'" in line for line in said)


def test_verify_refuses_other_tools_and_sees_a_difference(
    recipe: Path, built: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = lock.tool_versions()
    monkeypatch.setattr(lock, "tool_versions", lambda: versions | {"xz": "0.1"})
    with pytest.raises(Conflict, match=r"xz is 0.1 here and .* in the lock"):
        builder.verify(Request(recipe))
    monkeypatch.setattr(lock, "tool_versions", lambda: versions)
    real = builder._built

    def altered(job: Any, progress: Any) -> Image:
        """What is in the cache as it is, and for an image that is made again a copy with one other byte."""
        if job.cache.directory == user_cache() / "image":
            return real(job, progress)
        copy = shutil.copytree(built.directory, job.cache.directory / "copy")
        with (copy / "report.html").open("a") as file:
            file.write(" ")
        return Image(copy, built.about)

    monkeypatch.setattr(builder, "_built", altered)
    with pytest.raises(Conflict, match=r"differently the second time: report.html;"):
        builder.verify(Request(recipe))


def test_a_package_that_is_not_the_locked_one_is_refused(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    text = releases.lock_file(recipe.parent, releases.of_machine()).read_text()
    rows = json.loads(text)
    for row in rows["packages"]:
        row["sha256"] = "0" * 64 if row["name"] == "netbase" else row["sha256"]
    path.write_text(json.dumps(rows))
    with pytest.raises(Invalid, match=r"netbase: the file of .* has SHA-256 .*, the lock 0000000000000000"):
        build(Request(recipe, path, cache=fresh(tmp_path / "cache")))
