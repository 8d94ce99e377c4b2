"""Network namespaces for tests: a test's thread gets one of its own, with a second one beside it as a peer.

A namespace lives as long as a thread or process is in it, so nothing is left behind even when a test is killed.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def sh(command: str) -> str:
    """Run a line in the namespace of the calling thread and return what it printed."""
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True, timeout=30).stdout


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a thread with a network namespace of its own, in which only `lo` exists, up. Needs root."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        failure: list[BaseException] = []

        def inside() -> None:
            try:
                if _libc.unshare(_CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET): run the integration tests as root")
                sh("ip link set lo up")
                test(*args, **kwargs)
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]

    return run


class Peer:
    """A process in another namespace; `sh` runs a line there, with no more time than what hangs gets."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def argv(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-n", *command]

    def sh(self, command: str) -> str:
        argv = self.argv("sh", "-ec", command)
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=280).stdout


@contextmanager
def peer() -> Iterator[Peer]:
    """A second namespace with only `lo`, up."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec sleep 600"], stdout=-1) as child:
        assert child.stdout is not None
        try:
            child.stdout.readline()
            yield Peer(child.pid)
        finally:
            child.kill()


@contextmanager
def lan(name: str, address: str, other: str, mac: str = "52:54:00:00:00:07") -> Iterator[Peer]:
    """A wire: `name` here with `address` (a.b.c.d/n); `eth0` with `other` and `mac` in the peer's namespace."""
    with peer() as there:
        sh(f"ip link add {name} type veth peer name eth0 address {mac} netns {there.pid}")
        sh(f"ip addr add {address} dev {name} && ip link set {name} up")
        there.sh(f"ip addr add {other} dev eth0 && ip link set eth0 up")
        yield there
