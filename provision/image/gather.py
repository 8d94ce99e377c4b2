"""Recipe and packages -> the tree of an image: chosen, closed over what it needs, and finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.errors import Problem, Problems
from provision.image import accounts, assemble, enable, finish, modules, select, stubs, tree
from provision.image.cache import Cache
from provision.image.closure import Closure, close
from provision.image.modules import TOP, Modules
from provision.image.need import Surroundings
from provision.image.packages import Progress
from provision.image.python import PythonIndex
from provision.image.recipe import Loaded
from provision.image.select import Selection
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

    @property
    def kernel(self) -> Node:
        """The kernel, as its package signed it."""
        return self.packages[f"boot/vmlinuz-{self.modules.version}"]


def gather(loaded: Loaded, contents: Iterable[Node], version: str, cache: Cache, progress: Progress) -> Gathered:
    """Choose from the packages' `contents`; `version` is what the image will call itself.

    Raises Problems with everything that does not fit together.
    """
    packages = Tree(contents)
    found = modules.read(packages, cache)
    own, problems = _own(loaded, packages)
    own.append(tree.file(VERSION_FILE, f"{loaded.recipe.name} {version}\n".encode()))
    everything = Tree([*packages.values(), *own])
    progress("applying the rules", 0.4)
    selection = select.select(everything, loaded)
    problems += [
        Problem(rule.file, rule.line, rule.pattern, "no package has what this rule keeps", "correct or delete it")
        for rule in select.unmatched(selection.idle)
        if not found.is_builtin(rule.pattern)
    ]
    around = Surroundings(everything, found, PythonIndex.of(everything), loaded, selection.dropped())
    progress("working out what is needed", 0.45)
    closure = close(around, selection.decisions, _roots(loaded, found))
    problems += closure.problems
    if problems:
        raise Problems(problems, loaded.name)
    kept = {path: everything[path] for path in closure.kept if not path.startswith("boot/")}
    progress("making indexes", 0.55)
    finished = finish.finish(kept, found.version)
    nodes = assemble.complete(finished, packages, _directories(loaded))
    return Gathered(nodes, packages, selection, closure, found)


def own_files(directory: Path) -> Iterator[Node]:
    """The files below a directory that an image brings along; scripts are executable."""
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        data = path.read_bytes()
        yield tree.file(path.relative_to(directory).as_posix(), data, 0o755 if data.startswith(b"#!") else 0o644)


def _own(loaded: Loaded, packages: Tree) -> tuple[list[Node], list[Problem]]:
    """Everything that is not of a package: files, accounts, links, stubs, enabled units."""
    recipe = loaded.recipe
    own = [*own_files(loaded.directory / "root"), *accounts.files(recipe)]
    own += [tree.link(path.lstrip("/"), target) for path, target in recipe.links.items()]
    own += [tree.link(f"usr/bin/{applet}", "busybox") for applet in recipe.applets]
    own += [tree.link(name, f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")]
    replaced, problems = stubs.nodes(loaded, packages)
    links, more = enable.links(loaded, Tree([*packages.values(), *own]))
    return [*own, *replaced, *links], [*problems, *more]


def _roots(loaded: Loaded, found: Modules) -> Iterator[str]:
    yield from (f"{TOP}{found.version}/{name}" for name in _INDEXES)
    yield "usr/bin/busybox"
    yield from assemble.load_order(loaded.recipe.initramfs.modules, found)


def _directories(loaded: Loaded) -> dict[str, str]:
    return {path.strip("/"): mode for path, mode in loaded.recipe.directories.items()}
