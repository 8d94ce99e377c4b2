"""Files are put in place by `provision/writing.py`; what renames by itself is listed here with its reason."""

from __future__ import annotations

import ast

from tests.helpers.paths import ROOT

RENAMERS = {
    "writing.py": "the door itself",
    "image/cache.py": "keeps a directory that was made beside the cache",
    "image/packages.py": "keeps a downloaded package under the name that its hash gives it",
    "image/publish.py": "puts a whole image directory in place, and moves the old one out of the way",
    "media/library.py": "puts a whole image directory in place, and moves one away that is to be deleted",
    "service/images.py": "takes an upload that is already on the disk into its import",
}


def renames(source: str) -> bool:
    """Whether a module calls `x.rename(y)`, as pathlib and os have it, or `os.replace`."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [f for f in calls if isinstance(f, ast.Attribute)]
    return any(
        f.attr in ("rename", "renames")
        or (f.attr == "replace" and isinstance(f.value, ast.Name) and f.value.id == "os")
        for f in names
    )


def test_only_named_modules_rename() -> None:
    package = ROOT / "provision"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if renames(path.read_text())}
    assert found == set(RENAMERS)


def test_what_renames_is_recognised() -> None:
    assert renames("path.rename(other)") and renames("import os\nos.replace('a', 'b')")
    assert not renames("'a'.replace('b', 'c')")
