"""Kernel modules: what each says of itself (`modinfo`), found by name and by alias.

The `.modinfo` section holds `key=value` texts that end in NUL (include/linux/module.h); `modules.builtin.modinfo` holds
the same for what is built into the kernel, as `module.key=value` (Documentation/kbuild/kbuild.rst).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from provision.errors import Invalid
from provision.image import patterns
from provision.image.cache import Cache, digest
from provision.image.tree import Node, Tree

TOP = "usr/lib/modules/"
FIRMWARE = "usr/lib/firmware/"
"""Where the kernel looks for the files that `firmware` names."""
_INFO = re.compile(rb"\0(depends|softdep|alias|firmware)=([^\0]*)(?=\0)")
_SOFT = re.compile(r"\b(?:pre|post):")


@dataclass(frozen=True)
class Module:
    """One loadable module; `soft` and `aliases` as modinfo has them."""

    name: str
    path: str
    depends: tuple[str, ...]
    soft: tuple[str, ...]
    aliases: tuple[str, ...]
    firmware: tuple[str, ...]


@dataclass(frozen=True)
class Modules:
    """All modules of one kernel, and what is built into it."""

    version: str
    by_name: Mapping[str, Module]
    builtin: frozenset[str]
    builtin_aliases: tuple[str, ...]
    _exact: dict[str, list[str]] = field(default_factory=dict, repr=False)
    _wild: list[tuple[str, str, str]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        for module in self.by_name.values():
            for alias in module.aliases:
                if set("*?[") & set(alias):
                    self._wild.append((patterns.stem(alias), alias, module.name))
                else:
                    self._exact.setdefault(alias, []).append(module.name)

    def asked(self, name: str) -> list[Module]:
        """The modules that `modprobe NAME` would load: the one of that name, or all whose alias matches."""
        plain = spelled(name)
        if plain in self.by_name:
            return [self.by_name[plain]]
        found = {*self._exact.get(name, ()), *self._wildly(name)}
        return [self.by_name[module] for module in sorted(found)]

    def _wildly(self, name: str) -> Iterator[str]:
        # Most aliases of a bus differ before their first wildcard, which is cheaper to see than that they do not match.
        for stem, alias, module in self._wild:
            if name.startswith(stem) and fnmatchcase(name, alias):
                yield module

    def matching(self, pattern: str) -> list[Module]:
        """The modules that a rule's pattern means: by name, or with a `/` by their path below kernel/."""
        if "/" in pattern:
            return [m for m in self.by_name.values() if patterns.matches(pattern, inside(m.path))]
        plain = spelled(pattern)
        return [module for name, module in self.by_name.items() if patterns.matches(plain, name)]

    def is_builtin(self, name: str) -> bool:
        """Whether the kernel has it without any module."""
        return spelled(name) in self.builtin or any(fnmatchcase(name, alias) for alias in self.builtin_aliases)


def spelled(name: str) -> str:
    """A module's name as the kernel spells it."""
    return name.replace("-", "_")


def name_of(path: str) -> str | None:
    """The name of the module at a path; None for anything else."""
    if not (path.startswith(TOP) and path.endswith(".ko")):
        return None
    return spelled(path.rsplit("/", 1)[-1].removesuffix(".ko"))


def inside(path: str) -> str:
    """The path of a module below its kernel's kernel/, as rules have it."""
    return path[len(TOP) :].partition("/kernel/")[2]


def read(tree: Tree, cache: Cache) -> Modules:
    """All modules of the one kernel in the tree; raises Invalid when there is none, or more than one."""
    kernels = sorted(path for path in tree if path.startswith("boot/vmlinuz-"))
    if len(kernels) != 1:
        fact = f"hold {len(kernels)} kernels instead of one"
        raise Invalid("packages", fact, "name one linux-image package in the recipe")
    version = kernels[0].removeprefix("boot/vmlinuz-")
    nodes = [node for path, node in tree.items() if name_of(path)]
    # Reading 400 MB of modules takes its time, and gives the same for the same package.
    key = digest(1, sorted((node.path, str(node.content)) for node in nodes))
    rows = json.loads(cache.text("modules", f"{key}.json", lambda: json.dumps(list(_rows(nodes)))))
    found = [Module(name, path, *map(tuple, lists)) for name, path, *lists in rows]
    builtin, aliases = _builtin(tree, version)
    return Modules(version, {module.name: module for module in found}, builtin, aliases)


def _rows(nodes: Iterable[Node]) -> Iterator[tuple[object, ...]]:
    for node in sorted(nodes, key=lambda n: n.path):
        said: dict[bytes, list[str]] = {}
        for key, value in _INFO.findall(node.content.read()):
            said.setdefault(key, []).append(value.decode(errors="replace"))
        depends = [spelled(d) for text in said.get(b"depends", ()) for d in text.split(",") if d]
        soft = [word for text in said.get(b"softdep", ()) for word in _SOFT.sub(" ", text).split()]
        yield name_of(node.path), node.path, depends, soft, said.get(b"alias", []), said.get(b"firmware", [])


def _builtin(tree: Tree, version: str) -> tuple[frozenset[str], tuple[str, ...]]:
    names, info = (tree.get(f"{TOP}{version}/modules.{kind}") for kind in ("builtin", "builtin.modinfo"))
    lines = names.content.read().decode().splitlines() if names else []
    texts = info.content.read().decode(errors="replace").split("\0") if info else []
    aliases = [text.split(".alias=", 1)[1] for text in texts if ".alias=" in text]
    return frozenset(spelled(line.rsplit("/", 1)[-1].removesuffix(".ko")) for line in lines), tuple(aliases)
