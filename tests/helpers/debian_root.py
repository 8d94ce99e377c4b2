"""A Debian of its own in a directory: this machine's release, made by mmdebstrap, for what is installed as root."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.paths import ROOT

# Whatever is mounted or started there goes with the first process of its namespaces. That one stays root's shell: a
# process that becomes another user is no longer ended with its parent (PR_SET_PDEATHSIG of prctl(2)).
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
_ENTER = """\
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
chroot "$0" "$@" && exit 0 || exit "$?"
"""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def bootstrap(tar: Path) -> Path:
    """Write a minimal root to `tar`, with the archive's keys and package sources."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    # mmdebstrap's own user has to reach what it works in.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        argv = ["mmdebstrap", "--quiet", "--variant=minbase", codename, str(tar)]
        subprocess.run(argv, check=True, timeout=1200, env={**os.environ, "TMPDIR": work})
    return tar


def build(target: str, output: Path) -> None:
    """Make the wheel, or the Debian package of the wheel that is there, in `output`."""
    if target == "wheel":
        argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)]
    else:
        [wheel] = output.glob("provision-*.whl")
        argv = ["tools/deb", str(wheel), str(output)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class DebianRoot:
    """What was unpacked from such a tar; programs in it have processes and mounts of their own."""

    path: Path

    @classmethod
    def unpack(cls, tar: Path, path: Path) -> DebianRoot:
        path.mkdir()
        subprocess.run(["tar", "-C", str(path), "--exclude=./dev/*", "-xf", str(tar)], check=True, timeout=600)
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(Path("/etc", name), path / "etc" / name)
        return cls(path)

    def argv(self, *command: str) -> list[str]:
        return [*_NAMESPACES, "sh", "-ec", _ENTER, str(self.path), *command]

    def start(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """A program that stays; its output goes to `log`. Killing the process ends it."""
        with log.open("wb") as output:
            return subprocess.Popen(self.argv(*command), stdout=output, stderr=output, env=_ENVIRONMENT)

    def run(self, *command: str, ok: int = 0) -> str:
        """What a program printed on both outputs."""
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        done = subprocess.run(self.argv(*command), stdout=pipe, stderr=both, text=True, timeout=1800, env=_ENVIRONMENT)
        assert done.returncode == ok, done.stdout
        return done.stdout
