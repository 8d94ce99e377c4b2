"""The one door for running other programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision import confined as confined_by
from provision.errors import Unavailable

# What a tool needs of the environment; everything else would make its output depend on who runs it. APT_CONFIG names
# other sources of packages than the machine's own.
_KEPT = ("PATH", "HOME", "TMPDIR", "SOURCE_DATE_EPOCH", "APT_CONFIG")


Companion = subprocess.Popen[bytes]
StillRunning = subprocess.TimeoutExpired


def find(tool: str, package: str) -> str:
    """The path of `tool`, also in sbin; raises Unavailable naming the Debian `package` that holds it."""
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin:/usr/lib/dnsmasq")
    if path is None:
        raise Unavailable(tool, "the program is not installed", f"apt-get install {package}")
    return path


def companion(argv: Sequence[str], control: socket.socket) -> Companion:
    """Start a program that stays beside this process and speaks with it on its standard input, which `control` becomes.

    It has an empty environment and nothing else of ours but standard error. Raises Unavailable.
    """
    try:
        return subprocess.Popen(argv, stdin=control.fileno(), stdout=subprocess.DEVNULL, cwd="/", env={"LC_ALL": "C"})
    except OSError as error:
        raise Unavailable(argv[0], f"could not be started ({error.strerror})", "look at the installation") from None


def run(
    argv: Sequence[str | Path],
    *,
    package: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    ok: Sequence[int] = (0,),
    confined: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end with a small fixed environment (C locale, UTC) and return what it printed.

    A `confined` program is one that is shown what a stranger may have written: see provision.confined. It has no
    environment, and 125 is its exit code when it cannot be confined.

    Secrets never go into `argv` or `env`; `stdin` may carry them. Raises Unavailable with the last line of the
    program's standard error when it is missing, exits with a code not in `ok`, or outlives `timeout` seconds.
    """
    tool = str(argv[0])
    command = [find(tool, package), *map(str, argv[1:])]
    if confined:
        command = [sys.executable, "-I", confined_by.__file__, *command]
    environment = {k: os.environ[k] for k in _KEPT if k in os.environ}
    environment |= {"LC_ALL": "C", "TZ": "UTC"} | dict(env or {})
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, env=environment, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Unavailable(
            tool, f"did not finish within {timeout:.0f} s", "look at the machine's load and try again"
        ) from None
    except OSError as error:
        raise Unavailable(tool, f"could not be started ({error.strerror})", f"apt-get install {package}") from None
    if done.returncode not in ok:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise Unavailable(tool, f"failed with exit code {done.returncode}: {lines[-1]}")
    return done
