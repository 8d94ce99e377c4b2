"""A finished image for all machines -> the image for one platform, with no package and no recipe at hand.

The report of an image has the recipe's text, and for every file its package. So rules and needs are applied to the
image's own files as a build applies them to the packages', and the kernel, the initrd and image.json come out as
`image build --platform` makes them. Only report.json differs: it tells of packages what the first image's says.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision import cpio, proc
from provision.errors import Conflict, Invalid, NotFound
from provision.image import assemble, build, diff, lock, platforms, recipe, report, tree
from provision.image.build import Image
from provision.image.cache import Cache, user_cache
from provision.image.gather import regather
from provision.image.lock import Lock
from provision.image.need import Compiled, Need
from provision.image.packages import Package, Progress
from provision.image.recipe import Loaded
from provision.image.tree import OWN, Node

_ORIGIN = ("architecture", "sha256", "source", "licences")
"""What a report has of a package by its origin."""
_AGAIN = "build the image again with 'provision image build -o'"


@dataclass(frozen=True)
class Stored:
    """Bytes in a file of a scratch directory."""

    path: Path
    size: int

    def read(self) -> bytes:
        """All of them."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class Whole:
    """An image as its directory has it: the initramfs, the squashfs images of the root, image.json, report.json
    and the text of the lock."""

    initramfs: bytes
    roots: tuple[bytes, ...]
    kernel: bytes
    about: Mapping[str, Any]
    report: Mapping[str, Any]
    locked: str


def strip(
    source: Path, given: str, target: Path, cache: Path | None = None, progress: Progress = lambda what, done: None
) -> Image:
    """Write the image in `source`, for the platform that `given` means, to `target`; needs no privileges.

    Raises NotFound and Invalid for what is not a whole image, Conflict for an image that is for a platform already or
    has another kernel than the platform, Problems for a platform that needs what the image has not.
    """
    progress("reading the image", 0.0)
    whole = read(source)
    where = platforms.find(given, build.default_recipe())
    loaded = platforms.narrowed(_recipe(whole), where)
    kept = Cache(cache or user_cache() / "image")
    with kept.locked(), tempfile.TemporaryDirectory(prefix="provision-strip-") as scratch:
        made = _made(whole, loaded, Path(scratch), kept, progress)
        image = build.export(made, target)
    progress("done", 1.0)
    return image


def read(directory: Path) -> Whole:
    """Read an image's directory; raises NotFound or Invalid when it is none, or not as it was built."""
    said = diff.load(directory)
    files: dict[str, bytes] = {}
    for name in ("image.json", "vmlinuz", "initrd", lock.FILE):
        try:
            files[name] = (directory / name).read_bytes()
        except OSError as error:
            raise NotFound(str(directory / name), f"cannot be read ({error.strerror})", _AGAIN) from None
    try:
        about = json.loads(files["image.json"])
        known = {name: about["files"][name]["sha256"] for name in ("vmlinuz", "initrd")}
        split = len(files["initrd"]) - int(about["root_size"])
        complete = about == said["image"] and {"recipe", "packages", "files", "tools"} <= said.keys()
    except (ValueError, KeyError, TypeError):
        raise Invalid(str(directory / "image.json"), "does not describe an image", _AGAIN) from None
    for name, expected in known.items():
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise Invalid(str(directory / name), "is not what image.json says", _AGAIN)
    if not complete:
        raise Invalid(str(directory / "report.json"), "is not of this image, or of another version", _AGAIN)
    roots = cpio.read(io.BytesIO(files["initrd"][split:]), str(directory / "initrd"))
    packed, locked = tuple(root.data for root in roots), _locked(directory, files[lock.FILE], said)
    return Whole(files["initrd"][:split], packed, files["vmlinuz"], about, said, locked)


def _locked(directory: Path, text: bytes, said: Mapping[str, Any]) -> str:
    """The lock as it is; raises Invalid when it does not have the packages that the report names."""
    has = {(package.name, package.version) for package in lock.parse(text, str(directory / lock.FILE)).packages}
    if {(row.get("name"), row.get("version")) for row in said["packages"] if row.get("name") != OWN} - has:
        raise Invalid(str(directory / lock.FILE), "is not of this image", _AGAIN)
    return text.decode()


def _recipe(whole: Whole) -> Loaded:
    if whole.about["platform"] is not None:
        fact = f"is for the platform {whole.about['platform']} already"
        raise Conflict(f"{whole.about['name']} {whole.about['version']}", fact, "strip the image for all platforms")
    said = whole.report["recipe"]
    return recipe.parse(said["text"].encode(), said["name"], Path(), said.get("release", ""))


def _made(whole: Whole, loaded: Loaded, scratch: Path, cache: Cache, progress: Progress) -> Image:
    progress("unpacking the root file system", 0.05)
    contents = list(_contents(whole, scratch))
    version = build.version_for(whole.about["version"], loaded)
    gathered = regather(loaded, contents, version, Cache(scratch / "cache"), progress)
    progress("packing the root file system", 0.6)
    tools = lock.tool_versions()
    packed = build.packed_root(loaded, gathered, tools, cache)
    progress("packing the initrd", 0.95)
    target = scratch / "image"
    about = build.put(target, loaded, gathered, version, whole.initramfs, packed)
    progress("writing the report", 0.97)
    locked = _lock(whole)
    origins = {row["name"]: {k: row[k] for k in _ORIGIN} for row in whole.report["packages"] if row["name"] != OWN}
    written = report.report(about, loaded, locked, gathered, origins, locked.differences(tools))
    written["dropped"] = _together(whole.report["dropped"], written["dropped"])
    written["named"] = _still_named(whole.report.get("named", {}), written)
    build.put_report(target, written, whole.locked)
    return Image(target, about)


def _contents(whole: Whole, scratch: Path) -> Iterator[Node]:
    """The image's paths with the packages they are from, and its kernel where a package has it."""
    packed, root = scratch / "root.squashfs", scratch / "root"
    argv: list[str | Path] = ["unsquashfs", "-quiet", "-no-progress", "-no-xattrs", "-force", "-d", root, packed]
    for data in whole.roots:
        packed.write_bytes(data)
        proc.run(argv, package="squashfs-tools")
    rows = {row["path"]: row for row in whole.report["files"]}
    yield tree.file(f"boot/vmlinuz-{whole.about['kernel_version']}", whole.kernel)
    for entry in assemble.handed(whole.initramfs):
        if (row := rows.get(f"/{entry.path}")) is None:
            raise Invalid("report.json", f"does not know /{entry.path}, which the initramfs has", _AGAIN)
        yield tree.file(entry.path, entry.data, int(row["mode"], 8), source=row["package"])
    for path in sorted(root.rglob("*")):
        name, found = path.relative_to(root).as_posix(), path.lstat()
        row = rows.get(f"/{name}")
        if stat.S_ISDIR(found.st_mode):
            yield Node(name, found.st_mode, OWN)
        elif row is None:
            raise Invalid("report.json", f"does not know /{name}, which the image has", _AGAIN)
        elif stat.S_ISLNK(found.st_mode):
            yield tree.link(name, str(path.readlink()), row["package"])
        else:
            yield _file(name, row, Stored(path, found.st_size))


def _file(name: str, row: Mapping[str, Any], content: Stored) -> Node:
    """A regular file; bytecode that stands for its source has the source's path, by which rules and needs go."""
    mode = stat.S_IFREG | int(row["mode"], 8)
    if (said := row.get("compiled")) is None:
        return Node(name, mode, row["package"], content)
    source = said["source"].lstrip("/")
    needs = tuple(Need(path.lstrip("/"), what, hard=hard, must_exist=False) for path, what, hard in said["needs"])
    path = source if name == f"{source}c" else name
    return Node(path, mode, row["package"], Compiled(content, source, needs))


def _lock(whole: Whole) -> Lock:
    """What the report says of packages and tools; of the packages nothing but names and versions is known."""
    found = (Package(row["name"], row["version"], "", "", 0) for row in whole.report["packages"])
    return Lock((), tuple(sorted(found)), whole.report["tools"])


def _still_named(before: Mapping[str, list[str]], written: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the whole image's files name and it has not, as far as those files are still there, and what is left out
    now."""
    here = {row["path"] for row in written["files"]}
    kept = {path: [by for by in names if by in here] for path, names in before.items()}
    return dict(sorted({**{path: names for path, names in kept.items() if names}, **written["named"]}.items()))


def _together(*lists: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was left out before and what was left out now, by rule, the largest first."""
    found: dict[str, dict[str, Any]] = {}
    for entry in (entry for entries in lists for entry in entries):
        known = found.setdefault(entry["rule"], {"rule": entry["rule"], "files": 0, "size": 0, "paths": []})
        known["files"] += entry["files"]
        known["size"] += entry["size"]
        known["paths"] += entry["paths"]
    return sorted(found.values(), key=lambda entry: (-entry["size"], entry["rule"]))
