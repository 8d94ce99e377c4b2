"""The host image's own files and its recipe: what is to be started is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from provision.image.recipe import load
from tests.helpers.paths import ROOT

HOST = ROOT / "images" / "host"
CONSOLES = (
    HOST / "root" / "usr" / "lib" / "provision" / "status",
    ROOT / "tests" / "fixtures" / "probe-image" / "root" / "usr" / "lib" / "provision-probe" / "report",
)
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


@pytest.mark.parametrize("program", CONSOLES, ids=["host image", "probe image"])
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("quiet BOOT_IMAGE=/boot/0a/kernel initrd=/i BOOTIF=01-52-54-00-00-00-01", "the network (PXE)"),
        ("BOOT_IMAGE=/boot/0a/kernel quiet", "the network (PXE)"),
        ("BOOT_IMAGE=/boot/vmlinuz quiet", "its ISO (CD, USB stick, virtual medium or HTTP Boot)"),
        ("BOOT_IMAGE=/boot/vmlinuz quiet provision.slot=b panic=10", "slot b of its disk"),
        ("panic=10 quiet provision.image=0a0a", "its signed image"),
        ("BOOT_IMAGE=/vmlinuz-6.1 root=/dev/sda1", "/vmlinuz-6.1"),
        ("quiet", "a kernel given directly"),
    ],
)
def test_a_console_says_from_which_medium_it_was_booted(
    program: Path, arguments: str, shown: str, tmp_path: Path
) -> None:
    found = re.search(r"^origin\(\) \{\n.*?^\}\n", program.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    command_line = tmp_path / "cmdline"
    command_line.write_text(f"{arguments}\n")
    script = found[0].replace("/proc/cmdline", str(command_line)) + "origin\n"
    done = subprocess.run(["sh", "-euc", script], check=True, capture_output=True, text=True, timeout=20)
    assert done.stdout == f"{shown}\n"
