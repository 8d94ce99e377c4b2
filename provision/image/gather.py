"""Recipe and packages -> the tree of an image: chosen, closed over what it needs, and finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.errors import Invalid, Problem, Problems
from provision.image import (
    accounts,
    applets,
    assemble,
    bytecode,
    enable,
    finish,
    modules,
    patterns,
    platforms,
    selection,
    stubs,
    tree,
)
from provision.image.cache import Cache
from provision.image.closure import Closure, close
from provision.image.modules import TOP, Modules
from provision.image.need import Surroundings
from provision.image.packages import Progress
from provision.image.python_modules import PythonIndex
from provision.image.recipe import Loaded, Rule
from provision.image.selection import Selection
from provision.image.tree import Node, Tree

VERSION_FILE = "usr/lib/provision/image"
"""In the image: its name and version."""
_INDEXES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


@dataclass(frozen=True)
class Gathered:
    """An image's tree, complete and sorted, and how it came to be."""

    nodes: Mapping[str, Node]
    packages: Tree
    selection: Selection
    closure: Closure
    modules: Modules
    handed: frozenset[str]
    """Paths of what the initramfs has and hands over, so that the packed root need not have it."""
    together: frozenset[str] = frozenset()
    """Paths of what a platform has in one piece behind the initramfs, which hands it over as well."""

    @property
    def kernel(self) -> Node:
        """The kernel, as its package signed it."""
        return self.packages[f"boot/vmlinuz-{self.modules.version}"]


def gather(loaded: Loaded, contents: Iterable[Node], version: str, cache: Cache, progress: Progress) -> Gathered:
    """Choose from the packages' `contents`; `version` is what the image will call itself.

    Raises Problems with everything that does not fit together.
    """
    packages = Tree(contents)
    own, problems = _own(loaded, packages)
    own.append(_version_file(loaded, version))
    return _chosen(
        loaded,
        _Source("the lock", packages, own, tuple(loaded.stubs()), problems, "no package has what this rule keeps"),
        cache,
        progress,
    )


def regather(loaded: Loaded, contents: Iterable[Node], version: str, cache: Cache, progress: Progress) -> Gathered:
    """Choose from the `contents` of an image that was made of the same recipe: its root, and the kernel in boot/.

    Whatever is in a build for the loaded platform is in an image for none; so this gives the same tree as `gather`.
    Raises Problems, also for what the platform needs and the image has not.
    """
    packages = Tree(node for node in contents if not _is_made(node.path))
    # The image has the recipe's stubs already.
    stubbed = loaded.narrowed.stubs if loaded.narrowed else ()
    own, problems = stubs.nodes(stubbed, packages)
    own.append(_version_file(loaded, version))
    source = _Source("the image", packages, own, stubbed, problems, "the image does not have it")
    return _chosen(loaded, source, cache, progress)


@dataclass(frozen=True)
class _Source:
    """What there is to choose from, by name: packages, own files that are always chosen, what is wrong with these.

    `stubs` are the rules that stubs among the own files were made by; `absent` says in words that it has nothing of
    what a rule keeps.
    """

    name: str
    packages: Tree
    own: Sequence[Node]
    stubs: Sequence[Rule]
    problems: Sequence[Problem]
    absent: str


def _chosen(loaded: Loaded, source: _Source, cache: Cache, progress: Progress) -> Gathered:
    packages = source.packages
    found = modules.read(packages, cache)
    platforms.check_kernel(loaded.narrowed, found.version, source.name)
    everything = Tree([*packages.values(), *source.own])
    progress("applying the rules", 0.4)
    chosen = selection.select(everything, loaded)
    problems = [*source.problems, *_absent(loaded, chosen, found, source.absent)]
    around = Surroundings(everything, found, PythonIndex.of(everything), loaded, chosen.dropped())
    progress("working out what is needed", 0.45)
    closure = close(around, chosen.decisions, _roots(loaded, found))
    problems += closure.problems
    kept = {path: everything[path] for path in closure.kept if not path.startswith("boot/")}
    problems += stubs.opened(source.stubs, loaded.opens_stubs(), kept)
    if problems:
        raise Problems(problems, loaded.name)
    progress("making indexes", 0.55)
    finished = finish.finish(kept, found.version)
    progress("compiling Python modules", 0.57)
    compiled = bytecode.compiled(finished, around, cache)
    nodes = assemble.complete(compiled, packages, _directories(loaded))
    handed = frozenset({applets.BUSYBOX, *assemble.load_order(loaded.recipe.initramfs.modules, found)})
    together = frozenset(_together(loaded, nodes)) - handed
    return Gathered(nodes, packages, chosen, closure, found, handed, together)


def _together(loaded: Loaded, nodes: Mapping[str, Node]) -> Iterator[str]:
    wanted = loaded.narrowed.together if loaded.narrowed else ()
    for path, node in nodes.items():
        if node.is_file and any(patterns.matches(pattern, f"/{path}") for pattern in wanted):
            yield path


def _absent(loaded: Loaded, chosen: Selection, found: Modules, absent: str) -> Iterator[Problem]:
    """What is to be kept and is not there. For a platform only its own rules count: they may outdo the recipe's."""
    for rule in selection.unmatched(chosen.idle):
        counts = loaded.narrowed is None or rule.file == loaded.narrowed.file
        if counts and not found.is_builtin(rule.pattern) and not found.matching(rule.pattern):
            yield Problem(rule.file, rule.line, rule.pattern, absent, "correct or delete it")


def _version_file(loaded: Loaded, version: str) -> Node:
    platform = f" for {loaded.narrowed.name}" if loaded.narrowed else ""
    return tree.file(VERSION_FILE, f"{loaded.recipe.name} {version}{platform}\n".encode())


def _is_made(path: str) -> bool:
    """Whether a build makes the file from others that it keeps, or from its version."""
    name = path.rpartition("/")[2]
    is_index = path.startswith(TOP) and name.startswith("modules.") and name not in _INDEXES
    return is_index or path in (finish.LIBRARY_CACHE, VERSION_FILE)


def written(directory: Path) -> list[Path]:
    """The files below a directory that somebody wrote, sorted: not what Python leaves beside programs that were run."""
    return sorted(p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def own_files(directory: Path) -> Iterator[Node]:
    """The files below a directory that an image brings along; scripts are executable."""
    top = directory.resolve()
    for path in written(directory):
        if not path.resolve().is_relative_to(top):
            raise Invalid(str(path), "is a link that leads out of its directory", "bring the file itself along")
        data = path.read_bytes()
        yield tree.file(path.relative_to(directory).as_posix(), data, 0o755 if data.startswith(b"#!") else 0o644)


def _own(loaded: Loaded, packages: Tree) -> tuple[list[Node], list[Problem]]:
    """Everything that is not of a package: files, accounts, links, stubs, enabled units."""
    recipe = loaded.recipe
    own = [*own_files(loaded.directory / "root"), *accounts.files(recipe)]
    own += [tree.link(path.lstrip("/"), target) for path, target in recipe.links.items()]
    own += [tree.link(f"usr/bin/{applet}", "busybox") for applet in recipe.applets]
    own += [tree.link(name, f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")]
    replaced, problems = stubs.nodes(loaded.stubs(), packages)
    links, more = enable.links(loaded, Tree([*packages.values(), *own]))
    return [*own, *replaced, *links], [*problems, *more, *applets.problems(loaded, packages)]


def _roots(loaded: Loaded, found: Modules) -> Iterator[str]:
    yield from (f"{TOP}{found.version}/{name}" for name in _INDEXES)
    yield applets.BUSYBOX
    yield from assemble.load_order(loaded.recipe.initramfs.modules, found)


def _directories(loaded: Loaded) -> dict[str, str]:
    return {path.strip("/"): mode for path, mode in loaded.recipe.directories.items()}
