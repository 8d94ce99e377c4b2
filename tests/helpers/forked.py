"""Processes of `provision` that are forked from one which has loaded its modules, since that takes longer than most of
what tests ask of a service.

That one is `python -m tests.helpers.forked DESCRIPTOR`. It takes one message for each process on a socket that it
inherits, and says on a socket that comes with it which pid the process has and, later, how it has ended.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

from provision.lab.lans import NAMESPACES
from provision.lab.processes import Process
from tests.helpers.paths import ROOT

_MOST = 1 << 18
_CLONE_NEWNET, _PR_SET_PDEATHSIG = 0x40000000, 1


class Forked:
    """A `provision` that runs, as `subprocess.Popen` has it, as far as tests ask."""

    def __init__(self, words: Sequence[str | Path], output: IO[bytes], namespace: Path) -> None:
        """Run it with these words in a network namespace; both its streams go to `output`."""
        self.args = [*map(str, words)]
        self.returncode: int | None = None
        said = {"words": self.args, "directory": str(Path.cwd()), "environment": dict(os.environ)}
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, namespace.open() as there:
            descriptors = [theirs.fileno(), output.fileno(), there.fileno()]
            socket.send_fds(_asked(), [json.dumps(said).encode()], descriptors)
        self.pid = int(self._ours.recv(_MOST))

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or less than zero for a signal; raises TimeoutExpired."""
        with self._lock:
            if self.returncode is None:
                self._ours.settimeout(timeout)
                try:
                    # Nothing comes from one whose parent was ended before it.
                    self.returncode = int(self._ours.recv(_MOST) or -signal.SIGKILL)
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
                self._ours.close()
            return self.returncode

    def poll(self) -> int | None:
        """The same, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class ForkedProcess(Process):
    """The same as a program of a laboratory."""

    def __init__(self, words: Sequence[str | Path], log: Path, namespace: str) -> None:
        self.name, self.log = "provision", log
        self._begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._child: Any = Forked(words, output, NAMESPACES / namespace)


@cache
def _asked() -> socket.socket:
    """The socket on which the process is asked that forks. It ends when its parent does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        argv = [sys.executable, "-m", "tests.helpers.forked", str(theirs.fileno())]
        # In a session of its own: Ctrl-C is for those who ask, and without them it ends.
        subprocess.Popen(argv, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
    return ours


def main(asked: socket.socket) -> None:
    """Fork until nobody asks any more."""
    _load()
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as ready:
        ready.register(asked, selectors.EVENT_READ)
        ready.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is woken:
                    woken.recv(_MOST)
                    _reap(children)
                    continue
                said, descriptors, _, _ = socket.recv_fds(asked, _MOST, 3)
                if not said:
                    return
                _fork(json.loads(said), descriptors, children)


def _load() -> None:
    """All that `provision serve` loads, which is not to be looked through for garbage again and again."""
    gc.disable()
    import provision.cli.main
    import provision.server.run  # noqa: F401

    gc.freeze()
    gc.enable()


def _reap(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        # Who asked may be gone by now.
        with suppress(OSError), children.pop(pid) as told:
            told.send(str(os.waitstatus_to_exitcode(status)).encode())


def _fork(said: dict[str, Any], descriptors: Sequence[int], children: dict[int, socket.socket]) -> None:
    told, output, namespace = descriptors
    pid = os.fork()
    if pid == 0:
        _be(said, output, namespace)
    os.close(output)
    os.close(namespace)
    children[pid] = socket.socket(fileno=told)
    with suppress(OSError):
        children[pid].send(str(pid).encode())


def _be(said: dict[str, Any], output: int, namespace: int) -> NoReturn:
    """Become `provision`, as if it had been started that way."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        os.setsid()
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns: run the integration tests as root")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(said["directory"])
        os.environ.clear()
        os.environ.update(said["environment"])
        sys.argv = ["provision", *said["words"]]
        from provision.cli.main import main as provision

        provision()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
