"""The probe: a base image of Debian's stock server kernel and a small systemd root that tells what it has become.

It consumes a seed by the contract in docs/media-format.md. What it is made of stands in tests/fixtures/probe;
this module only gathers, so that the same packages give the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from provision import assets, cpio, proc
from provision.below import discard
from provision.errors import Unavailable
from provision.image import elf, packages
from provision.image.cache import user_cache
from provision.image.packages import Progress
from tests.helpers.paths import FIXTURES

KERNEL_ARGUMENTS = ("console=ttyS0,115200n8", "quiet", "loglevel=3", "systemd.show_status=false", "panic=10")
_KEPT_BUILDS = 4
_MODULES = "usr/lib/modules/"
_OPTIONAL = "?"


@dataclass(frozen=True)
class Probe:
    """A built probe image: paths of the kernel (signed by Debian) and of the one initrd, and the kernel's arguments."""

    kernel: Path
    initrd: Path
    kernel_arguments: tuple[str, ...]
    kernel_version: str


def default_cache() -> Path:
    """Where built probes and their packages are kept: `provision/probe` in the user's cache directory."""
    return user_cache() / "probe"


def build_probe(output: Path | None = None, progress: Progress = lambda what, done: None) -> Probe:
    """The probe image for this machine's package lists, built below `output` unless it is there already.

    `output` is a cache directory (`default_cache()` when None), shared safely by several processes. Needs no
    privileges. Raises Unavailable when packages cannot be had or a tool is missing.
    """
    cache = output or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipe = _Recipe.load()
        progress("resolving packages", 0.0)
        resolved = _resolve(recipe, cache)
        built = cache / _digest(recipe.stamp, json.dumps(resolved))
        if not (built / "initrd").exists():
            _build(recipe, [name for name, _ in resolved], cache, built, progress)
    progress("done", 1.0)
    version = (built / "version").read_text().strip()
    return Probe(built / "vmlinuz", built / "initrd", KERNEL_ARGUMENTS, version)


@dataclass(frozen=True)
class _Recipe:
    """The files of tests/fixtures/probe: lists by name, files of the final root, and a digest of all and of this code.

    `shared` is the initramfs that takes the seed in every image, `agent` the host image's program that says that the
    host is up.
    """

    directory: Path
    shared: Path
    agent: Path
    stamp: str

    @classmethod
    def load(cls) -> _Recipe:
        directory = FIXTURES / "probe"
        shared = assets.directory("images") / "common" / "initramfs"
        agent = assets.directory("images") / "host" / "root" / "usr" / "lib" / "provision" / "alive"
        sources = [p for top in (directory, shared) for p in sorted(top.rglob("*")) if p.is_file()] + [agent]
        code = [Path(m.__file__ or "") for m in (cpio, elf, packages)] + [Path(__file__)]
        parts = [f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in (*sources, *code)]
        return cls(directory, shared, agent, _digest(*parts))

    def names(self, file: str) -> list[str]:
        """The lines of one list that are not comments."""
        lines = (self.directory / file).read_text().splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    def text(self, file: str) -> bytes:
        return (self.directory / file).read_bytes()

    def root(self) -> Iterable[cpio.Entry]:
        """The image's own files in the final root; scripts are executable."""
        top = self.directory / "root"
        for path in sorted(p for p in top.rglob("*") if p.is_file()):
            data = path.read_bytes()
            yield cpio.file(str(path.relative_to(top)), data, 0o755 if data.startswith(b"#!") else 0o644)
        yield cpio.file("usr/lib/provision-probe/manifest.awk", (self.shared / "manifest.awk").read_bytes())
        yield cpio.file("usr/lib/provision/alive", self.agent.read_bytes(), 0o755)
        for line in self.names("links"):
            path_text, target = line.split()
            yield cpio.symlink(path_text.lstrip("/"), target)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _resolve(recipe: _Recipe, cache: Path) -> list[tuple[str, str]]:
    # apt needs two seconds to answer; its answer changes only with its lists.
    memory = cache / f"resolved-{_digest(recipe.stamp, packages.lists_stamp())}"
    if not memory.exists():
        for old in cache.glob("resolved-*"):
            old.unlink()
        answer = packages.resolve(recipe.names("packages"), cache)
        memory.with_suffix(".new").write_text(json.dumps(answer))
        memory.with_suffix(".new").rename(memory)
    return [(name, checksum) for name, checksum in json.loads(memory.read_text())]


def _build(recipe: _Recipe, names: list[str], cache: Path, built: Path, progress: Progress) -> None:
    progress("downloading packages", 0.05)
    packages.fetch(recipe.names("packages"), cache)
    pool: dict[str, cpio.Entry] = {}
    for number, name in enumerate(names):
        progress("reading packages", 0.2 + 0.5 * number / len(names))
        pool |= {entry.path: entry for entry in packages.read(packages.path_of(name, cache), _readable(recipe))}
    kernels = sorted(path for path in pool if path.startswith("boot/vmlinuz-"))
    if len(kernels) != 1:
        raise Unavailable("probe image", f"{len(kernels)} kernels in the packages instead of one", "report this")
    version = kernels[0].removeprefix("boot/vmlinuz-")
    progress("packing the initrd", 0.75)
    archive = cpio.pack(cpio.tree(_initramfs(recipe, _final_root(recipe, pool, version))))
    progress("compressing the initrd", 0.8)
    packed = proc.run(["zstd", "-q", "-12", "-T2", "-c"], package="zstd", stdin=archive, timeout=600).stdout
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as temporary:
        result = Path(temporary) / "result"
        result.mkdir()
        (result / "vmlinuz").write_bytes(pool[kernels[0]].data)
        (result / "version").write_text(version + "\n")
        (result / "packages").write_text("\n".join(names) + "\n")
        # Loaders align what follows an initrd only to 4 bytes, if at all.
        (result / "initrd").write_bytes(packed + bytes(-len(packed) % 512))
        discard(built)
        result.rename(built)
    _prune(cache, names)


def _prune(cache: Path, names: list[str]) -> None:
    """Forget packages of other versions, and all builds but the newest: machines may still be starting from those."""
    for package in (cache / "archives").glob("*.deb"):
        if package.name not in names:
            package.unlink()
    builds = sorted((path.parent for path in cache.glob("*/initrd")), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in builds[_KEPT_BUILDS:]:
        discard(old)


def _readable(recipe: _Recipe) -> Callable[[str], bool]:
    """What of a package is worth reading: what is kept, and what kept files may turn out to need."""
    kept = [_plain(pattern) for pattern in recipe.names("keep")]

    def wanted(path: str) -> bool:
        if path.startswith(("boot/vmlinuz-", _MODULES)) or (
            path.startswith(("usr/lib/", "usr/lib64/")) and ".so" in path
        ):
            return True
        return any(fnmatchcase(path, pattern) for pattern in kept)

    return wanted


def _plain(pattern: str) -> str:
    return pattern.removeprefix(_OPTIONAL).lstrip("/")


def _final_root(recipe: _Recipe, pool: dict[str, cpio.Entry], version: str) -> list[cpio.Entry]:
    root: dict[str, cpio.Entry] = {}
    for pattern in recipe.names("keep"):
        found = [path for path in pool if fnmatchcase(path, _plain(pattern))]
        if not found and not pattern.startswith(_OPTIONAL):
            raise Unavailable("probe image", f"no package has {pattern}", "correct tests/fixtures/probe/keep")
        root |= {path: pool[path] for path in found}
    _add_libraries(root, pool)
    root |= {entry.path: entry for entry in _modules(recipe.names("modules"), pool, version)}
    root |= {f"usr/bin/{a}": cpio.symlink(f"usr/bin/{a}", "busybox") for a in recipe.names("applets")}
    root |= {entry.path: entry for entry in recipe.root()}
    for empty, permissions in (("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("var", 0o755)):
        root[empty] = cpio.directory(empty, permissions)
    root |= {"root": cpio.directory("root", 0o700), "tmp": cpio.directory("tmp", 0o1777)}
    return list(root.values())


def _add_libraries(root: dict[str, cpio.Entry], pool: dict[str, cpio.Entry]) -> None:
    """Add the shared libraries that programs in `root` need, and what those need."""
    by_name = {path.rsplit("/", 1)[-1]: path for path in sorted(pool, reverse=True) if ".so" in path}
    pending = list(root.values())
    while pending:
        entry = pending.pop()
        link = entry.mode & 0o170000 == 0o120000
        for name in [entry.data.decode().rsplit("/", 1)[-1]] if link else elf.needed(entry.data):
            path = by_name.get(name)
            if path is None and not link:
                raise Unavailable("probe image", f"{entry.path} needs {name}, which no package has", "report this")
            if path is not None and path not in root:
                root[path] = pool[path]
                pending.append(pool[path])


def _modules(names: list[str], pool: dict[str, cpio.Entry], version: str) -> list[cpio.Entry]:
    """The named kernel modules, those they depend on, and depmod's indexes for exactly these."""
    by_name = {p.rsplit("/", 1)[-1].removesuffix(".ko").replace("-", "_"): p for p in pool if p.endswith(".ko")}
    chosen: dict[str, cpio.Entry] = {}
    pending = list(names)
    lines = pool[f"{_MODULES}{version}/modules.builtin"].data.decode().splitlines()
    builtin = {line.rsplit("/", 1)[-1].removesuffix(".ko").replace("-", "_") for line in lines}
    while pending:
        name = pending.pop().replace("-", "_")
        path = by_name.get(name, "")
        if path in chosen or name in builtin:
            continue
        if not path:
            raise Unavailable(
                "probe image", f"{name} is not a module of Linux {version}", "correct tests/fixtures/probe/modules"
            )
        chosen[path] = pool[path]
        depends = re.search(rb"\0depends=([^\0]*)\0", pool[path].data)
        pending += [d for d in (depends[1].decode().split(",") if depends else ()) if d]
    top = f"{_MODULES}{version}"
    chosen |= {p: pool[p] for p in pool if p.startswith(f"{top}/modules.")}
    with tempfile.TemporaryDirectory(prefix="provision-probe-") as temporary:
        for entry in chosen.values():
            place = Path(temporary) / entry.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(entry.data)
        (Path(temporary) / "lib").symlink_to("usr/lib")
        proc.run(["depmod", "-b", temporary, version], package="kmod")
        indexes = sorted((Path(temporary) / top).glob("modules.*"))
        chosen |= {f"{top}/{p.name}": cpio.file(f"{top}/{p.name}", p.read_bytes()) for p in indexes}
    return list(chosen.values())


def _initramfs(recipe: _Recipe, root: list[cpio.Entry]) -> Iterable[cpio.Entry]:
    busybox = next(entry for entry in root if entry.path == "usr/bin/busybox")
    yield cpio.file("bin/busybox", busybox.data, 0o755)
    for applet in recipe.names("applets"):
        yield cpio.symlink(f"bin/{applet}", "busybox")
    yield cpio.file("init", (recipe.shared / "init").read_bytes(), 0o755)
    yield cpio.file("manifest.awk", (recipe.shared / "manifest.awk").read_bytes())
    yield cpio.file("final-root", recipe.text("final-root"))
    yield cpio.file("etc/provision-seed-contract", b"1\n")
    yield cpio.file("etc/provision-seed-features", b"alive\n")
    for entry in root:
        yield cpio.Entry(f"final/{entry.path}", entry.mode, entry.data)
