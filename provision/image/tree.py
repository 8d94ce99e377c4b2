"""What packages hold, as one tree: paths and where their bytes are, nothing unpacked to disk and nothing run."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Protocol

from provision.errors import Invalid, NotFound
from provision.image.cache import Cache
from provision.image.packages import Package, merged, merged_target, pinned_path, require_relative, unpacked

OWN = "recipe"
"""The source of files that come from the recipe and not from a package."""
_SYMLINKS = 40


class Content(Protocol):
    """Bytes that are read when they are wanted."""

    @property
    def size(self) -> int:
        """In bytes."""

    def read(self) -> bytes:
        """All of them."""


@dataclass(frozen=True)
class Literal:
    """Bytes in memory."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)

    def read(self) -> bytes:
        """All of them."""
        return self.data


@dataclass(frozen=True)
class Slice:
    """A part of a cached file."""

    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """All of them."""
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            return os.pread(descriptor, self.size, self.offset)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Node:
    """One path (no leading slash) with its mode and source, a package's name; a symbolic link's content is its target.

    Everything belongs to root:root, and nothing is set-user-id.
    """

    path: str
    mode: int
    source: str
    content: Content = Literal(b"")

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def target(self) -> str:
        """Where a symbolic link leads, as a path of the tree without a leading slash."""
        return follow(self.path, self.content.read().decode())


def file(path: str, data: bytes, permissions: int = 0o644, source: str = OWN) -> Node:
    """A regular file."""
    return Node(path, stat.S_IFREG | permissions, source, Literal(data))


def link(path: str, target: str, source: str = OWN) -> Node:
    """A symbolic link."""
    return Node(path, stat.S_IFLNK | 0o777, source, Literal(target.encode()))


def directory(path: str, permissions: int = 0o755, source: str = OWN) -> Node:
    """A directory."""
    return Node(path, stat.S_IFDIR | permissions, source)


def follow(path: str, target: str) -> str:
    """The path that `target`, written in a link at `path`, means; without a leading slash and with /usr merged."""
    start = PurePosixPath("/") if target.startswith("/") else PurePosixPath("/", path).parent
    parts: list[str] = []
    for part in (*start.parts[1:], *PurePosixPath(target.lstrip("/")).parts):
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
    return merged("/".join(parts))


class Tree(Mapping[str, Node]):
    """All paths of all packages. Directories are known too, also those that no package lists by themselves."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes: dict[str, Node] = {}
        for node in nodes:
            self._add(node)
        self._directories: set[str] = set()
        for path in self._nodes:
            # One that is known has all its own already.
            while (path := path.rpartition("/")[0]) and path not in self._directories:
                self._directories.add(path)
        self._children: dict[str, list[str]] | None = None

    def _add(self, node: Node) -> None:
        earlier = self._nodes.get(node.path)
        if earlier is None or (earlier.is_directory and node.is_directory):
            self._nodes.setdefault(node.path, node)
        elif node.source == OWN or (earlier.mode, earlier.content) == (node.mode, node.content):
            self._nodes[node.path] = node
        elif earlier.source != OWN:
            fact = f"/{node.path} is in {earlier.source} and in {node.source}"
            raise Invalid("packages", fact, "leave one of the packages out, or bring the file as your own")

    def __getitem__(self, path: str) -> Node:
        return self._nodes[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def is_directory(self, path: str) -> bool:
        """Whether something stands below the path, or it is a directory by itself."""
        return path in self._directories or (path in self._nodes and self._nodes[path].is_directory)

    def below(self, directory: str) -> list[str]:
        """Paths that stand in a directory itself, sorted."""
        if self._children is None:
            self._children = {}
            for path in sorted(self._nodes):
                self._children.setdefault(path.rpartition("/")[0], []).append(path)
        return self._children.get(directory, [])

    def walk(self, path: str) -> tuple[str, list[str]]:
        """Where a path leads after all links, and the links on the way; raises NotFound for a loop."""
        links: list[str] = []
        rest = list(PurePosixPath(path).parts)
        done: list[str] = []
        while rest:
            done.append(rest.pop(0))
            here = "/".join(done)
            node = self._nodes.get(here)
            if node is not None and node.is_link:
                links.append(here)
                if len(links) > _SYMLINKS:
                    raise NotFound(f"/{path}", "leads in a circle")
                rest = [*PurePosixPath(node.target).parts, *rest]
                done = []
        return "/".join(done), links


def load(packages: Iterable[Package], debs: Path, cache: Cache) -> Iterator[Node]:
    """What each package holds, read from an uncompressed copy in the cache; the packages' files are in `debs`."""
    for package in packages:
        archive = cache.made("unpacked", f"{package.sha256}.tar", partial(_unpack, pinned_path(package, debs)))
        index = cache.text("indexes", f"{package.sha256}-1.json", partial(_index, archive))
        for path, mode, offset, size, target in json.loads(index):
            content: Content = Literal(target.encode()) if offset is None else Slice(archive, offset, size)
            yield Node(path, mode, package.name, content)


def _unpack(deb: Path, target: Path) -> None:
    target.write_bytes(unpacked(deb))


def _index(archive: Path) -> str:
    """Rows: path, mode, offset (null when it has no bytes in the archive), size, target of a symbolic link."""
    rows: list[tuple[str, int, int | None, int, str]] = []
    places: dict[str, tuple[int, int, int]] = {}
    with tarfile.open(fileobj=BytesIO(archive.read_bytes())) as members:
        for member in members:
            path = merged(member.name.removeprefix("./").rstrip("/"))
            permissions = member.mode & 0o1777
            if path in ("", ".", "bin", "sbin", "lib", "lib64"):
                continue
            require_relative(path, archive.name)
            if member.isdir():
                rows.append((path, stat.S_IFDIR | permissions, None, 0, ""))
            elif member.issym():
                rows.append((path, stat.S_IFLNK | 0o777, None, 0, merged_target(member.linkname)))
            elif member.isreg():
                places[member.name] = (stat.S_IFREG | (member.mode & 0o755), member.offset_data, member.size)
                rows.append((path, *places[member.name], ""))
            elif member.islnk():
                if member.linkname not in places:
                    raise Invalid(archive.name, "has a hard link to what it has not", "find out who made the package")
                rows.append((path, *places[member.linkname], ""))
    return json.dumps(rows)
