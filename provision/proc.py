"""The one door for running other programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from provision import confined as confined_by
from provision.errors import Unavailable

# What a tool needs of the environment; everything else would make its output depend on who runs it. APT_CONFIG names
# other sources of packages than the machine's own.
_KEPT = ("PATH", "HOME", "TMPDIR", "SOURCE_DATE_EPOCH", "APT_CONFIG")


_PIECE = 1 << 20
Companion = subprocess.Popen[bytes]
StillRunning = subprocess.TimeoutExpired


class Unconfined(Unavailable):
    """A program that may only run confined was not started."""


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
        command = _confined(command)
    environment = {k: os.environ[k] for k in _KEPT if k in os.environ}
    environment |= {"LC_ALL": "C", "TZ": "UTC"} | dict(env or {})
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, env=environment, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise _endless(tool, timeout) from None
    except OSError as error:
        raise Unavailable(tool, f"could not be started ({error.strerror})", f"apt-get install {package}") from None
    if done.returncode not in ok:
        raise _failed(tool, done.returncode, done.stderr)
    return done


def filtered(
    argv: Sequence[str], file: BinaryIO, *, package: str, threads: bool = False, timeout: float = 120.0
) -> Iterator[bytes]:
    """What a confined program makes of `file`, which is its standard input, in pieces of at most 1 MiB as it prints
    them: nothing is kept, however much it is. It may make threads if it is told to.

    Raises Unavailable as `run` does, after the last piece when the program fails, and Unconfined. A caller that stops
    earlier ends the program.
    """
    tool, pipe = argv[0], subprocess.PIPE
    command = _confined([find(tool, package), *argv[1:]], threads)
    with subprocess.Popen(command, stdin=file, stdout=pipe, stderr=pipe, env={"LC_ALL": "C", "TZ": "UTC"}) as process:
        assert process.stdout is not None and process.stderr is not None  # noqa: S101  (both are pipes)
        last, expired = deque[bytes](maxlen=1), threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        listener = threading.Thread(target=last.extend, args=(process.stderr,), daemon=True)
        late = threading.Timer(timeout, expire)
        listener.start()
        late.start()
        try:
            while data := process.stdout.read(_PIECE):
                yield data
            code = process.wait()
            listener.join()
        finally:
            late.cancel()
            process.kill()
    if expired.is_set():
        raise _endless(tool, timeout)
    if code:
        raise _failed(tool, code, b"".join(last))


def _confined(command: Sequence[str], threads: bool = False) -> list[str]:
    return [sys.executable, "-I", confined_by.__file__, *([confined_by.THREADS] if threads else []), *command]


def _endless(tool: str, timeout: float) -> Unavailable:
    return Unavailable(tool, f"did not finish within {timeout:.0f} s", "look at the machine's load and try again")


def _failed(tool: str, code: int, said: bytes) -> Unavailable:
    lines = said.decode(errors="replace").strip().splitlines() or ["no message"]
    if code == confined_by.FAILED:
        return Unconfined(tool, lines[-1], "look at the rules that the service runs under")
    return Unavailable(tool, f"failed with exit code {code}: {lines[-1]}")
