"""What is different between two images, by their reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.errors import Invalid, NotFound
from provision.image.report import FORMAT


@dataclass(frozen=True)
class Difference:
    """One difference of a kind ("package", "file", "size", "named"): what was and what is; None where there is nothing.

    "named" is a program or library that is left out, with the files that name it.
    `growth` is in bytes of the packed image for packages and sizes, of the file itself for files.
    """

    kind: str
    name: str
    old: str | None
    new: str | None
    growth: int


def load(directory: Path) -> Mapping[str, Any]:
    """The report in an image's directory; raises NotFound or Invalid."""
    path = directory / "report.json"
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        remedy = "name a directory that 'provision image build -o' filled"
        raise NotFound(str(path), f"cannot be read ({error.strerror})", remedy) from None
    except ValueError:
        raise Invalid(str(path), "is not JSON", "build the image again") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Invalid(str(path), "is not a report in a format that this version reads", "build the image again")
    return found


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """All differences: the sizes first, then packages, files and names of what is left out, each in order."""
    return [*_sizes(old, new), *_packages(old, new), *_files(old, new), *_named(old, new)]


def _named(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    # A report of an earlier version does not say.
    before, after = (found.get("named", {}) for found in (old, new))
    for path in sorted({*before, *after}):
        said = [" ".join(found[path]) if path in found else None for found in (before, after)]
        if said[0] != said[1]:
            yield Difference("named", path, said[0], said[1], 0)


def _sizes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    before, after = old["image"]["files"], new["image"]["files"]
    for name in sorted({*before, *after}):
        sizes = [found[name]["size"] if name in found else 0 for found in (before, after)]
        if before.get(name) != after.get(name):
            yield Difference("size", name, str(sizes[0]), str(sizes[1]), sizes[1] - sizes[0])


def _packages(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    before, after = ({p["name"]: p for p in found["packages"]} for found in (old, new))
    for name in sorted({*before, *after}):
        versions = [found[name]["version"] if name in found else None for found in (before, after)]
        if versions[0] != versions[1]:
            sizes = [found[name]["packed"] if name in found else 0 for found in (before, after)]
            yield Difference("package", name, versions[0], versions[1], sizes[1] - sizes[0])


def _files(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    before, after = ({f["path"]: f for f in found["files"]} for found in (old, new))
    for path in sorted({*before, *after}):
        said = [
            f"{found[path]['mode']} {found[path]['sha256'][:16]}" if path in found else None
            for found in (before, after)
        ]
        if said[0] != said[1]:
            sizes = [found[path]["size"] if path in found else 0 for found in (before, after)]
            yield Difference("file", path, said[0], said[1], sizes[1] - sizes[0])
