"""Building a host image: stages that each take what the one before gave, and remember what they made."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from provision import assets, cpio
from provision.errors import Conflict
from provision.image import (
    assemble,
    bom,
    lock,
    media,
    modules,
    origin,
    packages,
    page,
    platforms,
    recipe,
    releases,
    report,
    tree,
)
from provision.image.cache import Cache, digest, on_disk, user_cache
from provision.image.gather import Gathered, gather, own_files, written
from provision.image.lock import Lock
from provision.image.modules import Modules
from provision.image.packages import Progress
from provision.image.recipe import Loaded
from provision.image.tree import Node, Tree
from provision.image.versions import Place, Say, Versions, at_hand, obtainable, today

_ABOUT = "image.json"
_KEPT_IMAGES = 8
_KEPT_PACKAGES = 1500


@dataclass(frozen=True)
class Request:
    """What to build: recipe and lock (the shipped ones when None), and where packages and images are kept.

    `versions` says what to do about locked versions that the archive has replaced; TODAY writes the lock anew.
    `release` is Debian's, as `releases` calls it: this machine's when None.
    `platform` is a file, or the name of one beside the recipe; without it the image is for all that the recipe keeps.
    """

    recipe: Path | None = None
    lock: Path | None = None
    versions: Versions = Versions.LOCKED
    cache: Path | None = None
    platform: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class Image:
    """A built image: the directory with its files, and what image.json says of it."""

    directory: Path
    about: dict[str, Any]

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The one initrd."""
        return self.directory / "initrd"

    @property
    def kernel_arguments(self) -> tuple[str, ...]:
        """The recipe's."""
        return tuple(self.about["kernel_arguments"])


def build(request: Request, progress: Progress = lambda what, done: None, say: Say = lambda line: None) -> Image:
    """Build the image, or find it in the cache when nothing changed; needs no privileges.

    `say` gets a line when the image has other packages than the lock. Raises Problems for a recipe that does not fit
    together, Invalid for a lock that is not its own, and Unavailable when packages cannot be had, a tool is missing, or
    the disk is full or not writable.
    """
    progress("reading the recipe", 0.0)
    image = _found(request, say) or _first(request, progress, say)[0]
    progress("done", 1.0)
    return image


def _found(request: Request, say: Say) -> Image | None:
    """The image when the cache has it, and nothing has to be fetched to know which it is: other builds in the same
    cache, which take minutes, are not waited for."""
    if request.versions is Versions.TODAY:
        return None
    loaded, place, lines = load(request), request.cache or user_cache() / "image", list[str]()
    with on_disk(place):
        cache = Cache(place)
        path, wanted = _lock_file(loaded, request), loaded.recipe.packages
        if request.versions is Versions.LOCKED:
            taken: Lock | None = lock.read(path, wanted)
        else:
            taken = at_hand(path, wanted, Place(cache, lambda what, done: None, lines.append))
        if taken is None:
            return None
        releases.check(taken.packages, loaded.release)
        made = cache.find("images", _key(loaded, taken, lock.tool_versions()))
    if made is None:
        return None
    for line in lines:
        say(line)
    return _image(made)


def locked(request: Request, progress: Progress = lambda what, done: None, say: Say = lambda line: None) -> Lock:
    """The lock that a build of the same request takes, for a caller that builds twice. Raises what `build` raises."""
    loaded, place = load(request), request.cache or user_cache() / "image"
    with on_disk(place), (cache := Cache(place)).locked():
        return _lock(loaded, request, Place(cache, progress, say))


def _first(request: Request, progress: Progress, say: Say) -> tuple[Image, _Job]:
    """The image and how it was made."""
    loaded = load(request)
    place = request.cache or user_cache() / "image"
    with on_disk(place), (cache := Cache(place)).locked():
        taken = _lock(loaded, request, Place(cache, progress, say))
        job = _Job(loaded, taken, lock.tool_versions(), cache, cache.directory / "packages")
        image = _built(job, progress)
        if request.versions is Versions.TODAY:
            # Not before: packages that make no image are not worth a lock.
            lock.write(taken, _lock_file(loaded, request))
        cache.prune("images", _KEPT_IMAGES)
        for kind in ("packages", "unpacked", "indexes", "origins", "licences"):
            cache.prune(kind, _KEPT_PACKAGES)
    return image, job


def verify(request: Request, progress: Progress = lambda what, done: None, say: Say = lambda line: None) -> Image:
    """Build the image twice, the second time from the packages with nothing remembered, and compare every byte.

    The base media that either would be imported as are compared too. Raises Conflict when a tool is not of the locked
    version, or the two differ, and ImportProblems when boot loaders for the media are missing.
    """
    progress("reading the recipe", 0.0)
    first, made = _first(request, lambda what, done: progress(what, done / 2), say)
    if differing := made.locked.differences(made.tools):
        raise Conflict(first.about["name"], "; ".join(differing), "use the tools of the lock, or --update-lock")
    kept = Cache(place := request.cache or user_cache() / "image")
    with (
        on_disk(place),
        kept.locked(),
        tempfile.TemporaryDirectory(prefix="new-", dir=kept.directory) as temporary,
    ):
        job = replace(made, cache=Cache(Path(temporary)))
        second = _built(job, lambda what, done: progress(f"again: {what}", 0.5 + 0.4 * done))
        differing = _differing(first, second)
        if not differing:
            progress("comparing the media", 0.9)
            one, other = (
                media.media(image.kernel, image.initrd, image.kernel_arguments, Path(temporary) / name)
                for image, name in ((first, "media"), (second, "second-media"))
            )
            differing = [name for name in one if one[name] != other[name]]
    if differing:
        remedy = "compare the two with 'provision image diff'"
        raise Conflict(first.about["name"], f"came out differently the second time: {', '.join(differing)}", remedy)
    progress("done", 1.0)
    return first


def load(request: Request) -> Loaded:
    """The recipe that is asked for, for the platform that is asked for.

    Raises Problems for what is wrong with either, NotFound when one is missing.
    """
    path = request.recipe or default_recipe()
    loaded = recipe.load(path, request.release)
    return platforms.narrowed(loaded, platforms.find(request.platform, path)) if request.platform else loaded


def packages_of(
    request: Request, progress: Progress = lambda what, done: None, say: Say = lambda line: None
) -> tuple[Loaded, Tree, Modules]:
    """The recipe, all that its locked packages hold, and the modules of their kernel; fetches what is not there yet."""
    progress("reading the recipe", 0.0)
    loaded = load(request)
    cache = Cache(request.cache or user_cache() / "image")
    with cache.locked():
        taken = _lock(loaded, request, Place(cache, progress, say))
        debs = cache.directory / "packages"
        packages.fetch_pinned(taken.packages, debs, lambda what, done: progress(what, 0.05 + 0.8 * done))
        progress("reading packages", 0.85)
        found = Tree(tree.load(taken.packages, debs, cache))
        return loaded, found, modules.read(found, cache)


def _differing(first: Image, second: Image) -> list[str]:
    """The names of files that are not the same in both."""
    names = sorted({path.name for image in (first, second) for path in image.directory.iterdir()})
    return [name for name in names if not _same(first.directory / name, second.directory / name)]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def default_recipe() -> Path:
    """The recipe that ships with the project."""
    return assets.directory("images") / "host" / "recipe.yaml"


def export(image: Image, directory: Path) -> Image:
    """Copy a built image's files to a directory of the operator's; each is there whole or not at all, image.json last.

    Raises Unavailable when the disk is full or not writable.
    """
    with on_disk(directory):
        directory.mkdir(parents=True, exist_ok=True)
        # By this the others are known to belong together, so it is not there while they do not.
        (directory / _ABOUT).unlink(missing_ok=True)
        for source in sorted(image.directory.iterdir(), key=lambda path: (path.name == _ABOUT, path.name)):
            new = directory / f".{source.name}.new"
            try:
                shutil.copyfile(source, new)
                new.replace(directory / source.name)
            finally:
                new.unlink(missing_ok=True)
    return Image(directory, image.about)


def _lock_file(loaded: Loaded, request: Request) -> Path:
    return request.lock or releases.lock_file(loaded.directory, loaded.release)


def _lock(loaded: Loaded, request: Request, place: Place) -> Lock:
    path, wanted = _lock_file(loaded, request), loaded.recipe.packages
    match request.versions:
        case Versions.LOCKED:
            taken = lock.read(path, wanted)
        case Versions.OBTAINABLE:
            taken = obtainable(path, wanted, place)
        case Versions.TODAY:
            lock.check_place(path)
            taken = today(wanted, place)
    releases.check(taken.packages, loaded.release)
    return taken


@dataclass(frozen=True)
class _Job:
    """One build: what goes in, and where it is remembered; packages' files are in `debs`."""

    loaded: Loaded
    locked: Lock
    tools: dict[str, str]
    cache: Cache
    debs: Path


def _built(job: _Job, progress: Progress) -> Image:
    key = _key(job.loaded, job.locked, job.tools)
    return _image(job.cache.made("images", key, lambda path: _make(job, path, progress)))


def _key(loaded: Loaded, locked: Lock, tools: dict[str, str]) -> str:
    narrowed = loaded.narrowed
    return digest(_inputs(loaded), locked.text(), narrowed.text if narrowed else None, tools, _code())


def _image(directory: Path) -> Image:
    return Image(directory, json.loads((directory / _ABOUT).read_text()))


def _make(job: _Job, target: Path, progress: Progress) -> None:
    loaded, locked, cache = job.loaded, job.locked, job.cache
    packages.fetch_pinned(locked.packages, job.debs, lambda what, done: progress(what, 0.05 + 0.2 * done))
    progress("reading packages", 0.25)
    contents = list(tree.load(locked.packages, job.debs, cache))
    version = version_of(loaded, locked, job.tools)
    gathered = gather(loaded, contents, version, cache, progress)
    progress("packing the root file system", 0.6)
    root = packed_root(loaded, gathered, job.tools, cache)
    progress("packing the initrd", 0.95)
    about = put(target, loaded, gathered, version, _initramfs(loaded, gathered), root)
    progress("writing the report", 0.97)
    used = {node.source for node in gathered.nodes.values()}
    origins = origin.origins((p for p in locked.packages if p.name in used), job.debs, gathered.packages, cache)
    written = report.report(about, loaded, locked, gathered, origins, locked.differences(job.tools))
    put_report(target, written, locked.text())


def version_of(loaded: Loaded, locked: Lock, tools: dict[str, str]) -> str:
    """The version of an image: what it is made of and by, not what comes out, since a file cannot hold its own hash."""
    return version_for(digest(_inputs(loaded), locked.text(), tools, _code())[:12], loaded)


def version_for(generic: str, loaded: Loaded) -> str:
    """The version of the image for the loaded platform, from that of the image for all."""
    return digest(generic, loaded.narrowed.text)[:12] if loaded.narrowed else generic


def put(target: Path, loaded: Loaded, gathered: Gathered, version: str, initramfs: bytes, root: Path) -> dict[str, Any]:
    """Make the directory of an image, with all but its report; returns what image.json says."""
    target.mkdir()
    more = assemble.together(gathered.nodes[path] for path in sorted(gathered.together))
    (target / "initrd").write_bytes(assemble.initrd(initramfs, more, root.read_bytes()))
    (target / "vmlinuz").write_bytes(gathered.kernel.content.read())
    about = _about(loaded, gathered, version, target, root)
    (target / _ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    return about


def put_report(target: Path, written: dict[str, Any], locked: str) -> None:
    """Write a report, as data, as a page and as a bill of materials, into the directory of its image, with its lock."""
    (target / lock.FILE).write_text(locked)
    (target / "report.json").write_text(json.dumps(written, indent=1) + "\n")
    (target / "report.html").write_text(page.page(written))
    (target / bom.FILE).write_text(bom.bom(written))


def packed_root(loaded: Loaded, gathered: Gathered, tools: dict[str, str], cache: Cache) -> Path:
    """The packed root: made again only when a file of it, or the way to pack it, changed."""
    nodes = tuple(n for n in gathered.nodes.values() if n.path not in gathered.handed | gathered.together)
    rows = [(n.path, n.mode, hashlib.sha256(n.content.read()).hexdigest()) for n in nodes]
    how, early = loaded.recipe.squashfs, loaded.early
    ways = how.model_dump(), early and early.model_dump()
    key = digest(rows, ways, tools["mksquashfs"], _code(assemble))
    made = cache.made("roots", key, partial(assemble.root, nodes, how, early))
    cache.prune("roots", _KEPT_IMAGES)
    return made


def _initramfs(loaded: Loaded, gathered: Gathered) -> bytes:
    names = loaded.recipe.initramfs
    order = [gathered.nodes[path] for path in assemble.load_order(names.modules, gathered.modules)]
    return assemble.initramfs(gathered.nodes, names.applets, order, _initramfs_files(loaded))


def _initramfs_files(loaded: Loaded) -> Iterator[Node]:
    """What the initramfs runs: the shared handling of seeds, and this image's way to mount its root."""
    yield from own_files(assets.directory("images") / "common" / "initramfs")
    yield from own_files(loaded.directory / "initramfs")


def _about(loaded: Loaded, gathered: Gathered, version: str, directory: Path, root: Path) -> dict[str, Any]:
    files = {
        name: {
            "size": (directory / name).stat().st_size,
            "sha256": hashlib.sha256((directory / name).read_bytes()).hexdigest(),
        }
        for name in ("vmlinuz", "initrd")
    }
    return {
        "format": 1,
        "name": loaded.recipe.name,
        "version": version,
        "release": loaded.release,
        "platform": loaded.narrowed.name if loaded.narrowed else None,
        "id": digest(files),
        "kernel_version": gathered.modules.version,
        "kernel_arguments": list(loaded.recipe.kernel_arguments),
        "files": files,
        "root_size": root.stat().st_size,
        "root_files": len(gathered.nodes),
    }


def _inputs(loaded: Loaded) -> list[tuple[str, str]]:
    """Everything of the project that goes into an image, by path and SHA-256; and the release."""
    common = assets.directory("images") / "common"
    found = [(f"{d.name}/{p.relative_to(d)}", p) for d in (loaded.directory, common) for p in written(d)]
    rows = [(name, hashlib.sha256(p.read_bytes()).hexdigest()) for name, p in found]
    # The lock is taken as it was read; it may stand elsewhere. A platform goes only into images for it.
    kept = sorted(row for row in rows if not row[0].endswith("/lock.json") and "/platforms/" not in row[0])
    return [*kept, ("release", loaded.release)]


def _code(*modules: Any) -> str:
    """A digest of the code that makes images, so that a changed builder takes nothing for its own."""
    paths = [Path(m.__file__) for m in modules] or [*sorted(Path(__file__).parent.glob("*.py")), Path(cpio.__file__)]
    return digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
