"""Where the packages of an image come from: the source package, and the licences that the copyright file names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from provision import proc
from provision.errors import NotFound
from provision.image import licences
from provision.image.cache import Cache
from provision.image.packages import Package, pinned_path
from provision.image.tree import Tree

_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")


def origins(locked: Iterable[Package], debs: Path, packages: Tree, cache: Cache) -> dict[str, dict[str, Any]]:
    """For each package by name what report.json says of it: architecture, sha256, source, licences.

    `source` is {"name", "version"} of the source package. `licences` is None where the copyright file is missing or
    in no known format: then only a person can tell.
    """
    return {package.name: _origin(package, debs, packages, cache) for package in locked}


def _origin(package: Package, debs: Path, packages: Tree, cache: Cache) -> dict[str, Any]:
    field = cache.text("origins", package.sha256, partial(_source_field, pinned_path(package, debs))).strip()
    match = _SOURCE.fullmatch(field)
    # Without the field, or without a version in it, source and package have the same (deb-control(5)).
    name, version = match.groups() if match else (package.name, None)
    return {
        "architecture": package.architecture,
        "sha256": package.sha256,
        "source": {"name": name, "version": version or package.version},
        "licences": _licences(package, packages, cache),
    }


def _source_field(deb: Path) -> str:
    return proc.run(["dpkg-deb", "--field", deb, "Source"], package="dpkg").stdout.decode()


def _licences(package: Package, packages: Tree, cache: Cache) -> list[str] | None:
    """Of the file as the packages have it: often the documentation is a link to another package's."""
    try:
        path, _ = packages.walk(f"usr/share/doc/{package.name}/copyright")
    except NotFound:
        return None
    node = packages.get(path)
    if node is None or not node.is_file:
        return None
    text = node.content.read()
    key = f"{hashlib.sha256(text).hexdigest()}-1"
    known = cache.text("licences", key, lambda: json.dumps(licences.names(text)))
    found: list[str] | None = json.loads(known)
    return found
