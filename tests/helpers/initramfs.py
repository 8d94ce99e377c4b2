"""The initramfs's own functions, run by BusyBox as the initramfs does, on directories that stand for a machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.helpers.paths import ROOT

SCRIPTS = ROOT / "images/common/initramfs"


def run(directory: Path, commands: str) -> str:
    """What the commands print, with nothing but BusyBox's own programs to run. Raises CalledProcessError."""
    programs = directory / "bin"
    if not programs.exists():
        programs.mkdir()
        subprocess.run(["/bin/busybox", "--install", "-s", str(programs)], check=True, capture_output=True)
    argv = ["busybox", "sh", "-c", commands]
    done = subprocess.run(
        argv, env={"PATH": str(programs)}, capture_output=True, check=True, text=True, executable="/bin/busybox"
    )
    return done.stdout
