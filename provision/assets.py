"""Where the files that ship with the project stand: beside the package in a wheel, at the top of a source tree."""

from __future__ import annotations

from pathlib import Path

from provision.errors import Unavailable

_PACKAGE = Path(__file__).resolve().parent


def is_installed(path: Path) -> bool:
    """Whether a file of that path is the installed program's own; those of a source tree are its developer's."""
    return path.resolve().is_relative_to(_PACKAGE)


def directory(name: str) -> Path:
    """The directory of shipped files called `name` ("templates", "images", "examples"); raises Unavailable."""
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_dir():
            return root / name
    raise Unavailable(name, "this directory of the installation is missing", "install provision again")
