"""`lock.json`: the packages of an image by version and SHA-256, and the versions of the tools that it was made with.

It names no archive: the machine's own APT configuration says where packages come from, the hashes what they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from provision import assets, proc, writing
from provision.errors import Invalid, Unavailable
from provision.image.packages import Package

_TOOLS = {
    "depmod": (("depmod", "--version"), "kmod"),
    "ldconfig": (("ldconfig", "--version"), "libc-bin"),
    "mksquashfs": (("mksquashfs", "-version"), "squashfs-tools"),
    "xz": (("xz", "--version"), "xz-utils"),
}
_NUMBER = re.compile(r"\d+(\.\d+)+|\b\d+\b")
_FORMAT = 1
FILE = "lock.json"
"""What it is called beside a recipe, and beside an image that was made by it."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Row(_Model):
    name: str
    version: str
    architecture: str
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: int


class _File(_Model):
    format: int
    wanted: list[str]
    packages: list[_Row]
    tools: dict[str, str]


@dataclass(frozen=True)
class Lock:
    """What `packages` the names `wanted` came to, sorted, and the `tools`' versions."""

    wanted: tuple[str, ...]
    packages: tuple[Package, ...]
    tools: dict[str, str]

    def text(self) -> str:
        """The file: one line for each package, so that a diff shows what changed."""
        rows = ",\n".join(f"    {json.dumps(asdict(package))}" for package in self.packages)
        head = f'{{\n  "format": {_FORMAT},\n  "wanted": {json.dumps(self.wanted)},\n'
        return f'{head}  "packages": [\n{rows}\n  ],\n  "tools": {json.dumps(self.tools, sort_keys=True)}\n}}\n'

    def differences(self, tools: dict[str, str]) -> list[str]:
        """In words: tools of this machine that are not of the locked version."""
        return [
            f"{name} is {tools.get(name, 'missing')} here and {version} in the lock"
            for name, version in sorted(self.tools.items())
            if tools.get(name) != version
        ]


def parse(text: bytes, subject: str) -> Lock:
    """Read a lock file's content; raises Invalid naming `subject`."""
    try:
        found = _File.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Invalid(
            subject, f"is not a lock file: {where}: {first['msg']}", "make it with 'image build --update-lock'"
        ) from None
    if found.format != _FORMAT:
        raise Invalid(
            subject, f"has the format {found.format}, not {_FORMAT}", "make it with 'image build --update-lock'"
        )
    packages = tuple(sorted(Package(**row.model_dump()) for row in found.packages))
    return Lock(tuple(found.wanted), packages, found.tools)


def read(path: Path, wanted: Sequence[str]) -> Lock:
    """Read a lock file for a recipe that names `wanted`; raises Invalid when it is missing or of another recipe."""
    try:
        lock = parse(path.read_bytes(), str(path))
    except OSError as error:
        raise Invalid(
            str(path), f"cannot be read ({error.strerror})", "make it with 'image build --update-lock'"
        ) from None
    if lock.wanted != tuple(sorted(wanted)):
        added, gone = sorted(set(wanted) - set(lock.wanted)), sorted(set(lock.wanted) - set(wanted))
        parts = [f"{word} {', '.join(names)}" for word, names in (("lacks", added), ("still has", gone)) if names]
        raise Invalid(
            str(path), f"is not of this recipe: it {' and '.join(parts)}", "make it with 'image build --update-lock'"
        )
    return lock


def check_place(path: Path) -> None:
    """Raise Unavailable when no lock file can be written there, before anything long is done for one.

    Nor may it replace a file of the installation, which the next upgrade would put back.
    """
    if assets.is_installed(path):
        raise Unavailable(str(path), "belongs to the installed program", "name another place with --lock")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        fact = "its directory cannot be written to" if path.parent.is_dir() else "its directory does not exist"
        raise Unavailable(str(path), fact, "name another place with --lock")


def write(lock: Lock, path: Path) -> None:
    """Write a lock file beside, then rename: the old one stays as it is until then. Raises Unavailable."""
    try:
        writing.write(path, lock.text().encode(), mode=0o666)
    except OSError as error:
        remedy = "make room and look at its permissions"
        raise Unavailable(str(path), f"cannot be written ({error.strerror})", remedy) from None


def tool_versions() -> dict[str, str]:
    """The versions of the tools whose output is part of an image, on this machine; raises Unavailable."""
    found = {}
    for name, (argv, package) in _TOOLS.items():
        line = proc.run(argv, package=package).stdout.decode().splitlines()[0]
        number = _NUMBER.search(line.replace("GNU libc) stable release version", ""))
        found[name] = number[0] if number else line
    return found
