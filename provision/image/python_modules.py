"""Python modules as files: which module a path is, and where a module's file is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from provision.image.tree import Tree

_TOPS = re.compile(r"usr/lib/python3(?:\.\d+)?(?:/dist-packages|/lib-dynload)?/")
_EXTENSION = re.compile(r"(\.cpython-[^/]*|\.abi3)?\.so$")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class PythonIndex:
    """All importable modules by dotted name, with their files: a package's is its `__init__.py`."""

    files: Mapping[str, str]

    @classmethod
    def of(cls, tree: Tree) -> PythonIndex:
        """The index of a tree."""
        return cls({name: path for path in sorted(tree) if (name := name_of(path))})

    def chain(self, dotted: str) -> Iterator[str]:
        """The files that an import of a dotted name reads: the packages above it, and the module itself."""
        parts = dotted.split(".")
        for length in range(1, len(parts) + 1):
            if (path := self.files.get(".".join(parts[:length]))) is not None:
                yield path


def name_of(path: str) -> str | None:
    """The dotted name of the module at a path; None for what is not a module."""
    top = _longest_top(path)
    if top is None:
        return None
    rest = path[len(top) :]
    if rest.endswith(".py"):
        rest = rest[:-3].removesuffix("/__init__")
    elif _EXTENSION.search(rest):
        rest = _EXTENSION.sub("", rest)
    else:
        return None
    name = rest.replace("/", ".")
    return name if _NAME.fullmatch(name) else None


def package_of(path: str) -> str:
    """The dotted name of the package that relative imports of a module start from."""
    name = name_of(path) or ""
    return name if path.endswith("/__init__.py") else name.rpartition(".")[0]


def _longest_top(path: str) -> str | None:
    found = _TOPS.match(path)
    return found[0] if found else None
