"""The host image's own files and its recipe: what is to be started is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from provision.image.recipe import load

HOST = Path(__file__).parents[2] / "images" / "host"
UNITS = HOST / "root" / "etc" / "systemd" / "system"


def test_every_unit_that_wants_to_be_enabled_is() -> None:
    enabled = yaml.safe_load((HOST / "recipe.yaml").read_text())["units"]["enable"]
    wanting = {path.name for path in UNITS.glob("provision-*") if "\n[Install]\n" in path.read_text()}
    assert len(wanting) > 5 and wanting - set(enabled) == set()


_WITHOUT = """\
import fnmatch, importlib, importlib.abc, sys
class Left(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        above = [".".join(parts[: n + 1]) for n in range(len(parts))]
        if name not in KEPT and any(fnmatch.fnmatchcase(one, pattern) for one in above for pattern in DROPPED):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Left())
for name in KEPT:
    importlib.import_module(name)
print(len(KEPT))
"""


def test_python_does_without_the_modules_that_are_left_out() -> None:
    """An import that is not at a module's top gives way to a rule, so the build itself cannot say that it may."""
    rules = load(HOST / "recipe.yaml").recipe.rules.python
    dropped = [pattern for rule in rules for pattern in rule.drop]
    kept = [name for rule in rules for name in rule.keep if "*" not in name and not name.startswith("_")]
    kept += ["ctypes", "decimal", "multiprocessing.connection", "random"]
    assert "_pydecimal" in dropped and len(kept) > 40
    program = f"DROPPED, KEPT = {dropped!r}, {kept!r}\n{_WITHOUT}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"{len(kept)}\n"), done.stderr[-500:]
