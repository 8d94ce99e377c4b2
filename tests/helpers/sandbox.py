"""Runs a program under the rules of a systemd unit, without systemd: its system calls, memory and address families.

`python -m tests.helpers.sandbox UNIT PROGRAM ARGUMENT...` puts what systemd 252 would put into the kernel (src/shared/
seccomp-util.c) there through libseccomp, which every systemd needs, and becomes the program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_ALLOW, _EPERM = 0x7FFF0000, 0x00050000 | errno.EPERM
_MASKED_EQUAL = 7
_PROT_WRITE, _PROT_EXEC, _SHM_EXEC = 2, 4, 0o100000
_PR_SET_NO_NEW_PRIVS = 38


class _Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    """One seccomp filter; `load` puts it on this process and all that comes from it."""

    def __init__(self, default: int) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.seccomp_init(default))

    def add(self, action: int, call: str, *comparisons: tuple[int, int, int, int]) -> None:
        """Take `action` for that call; a call that this architecture does not have is left out."""
        number = self._lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        array = (_Comparison * len(comparisons))(*(_Comparison(*one) for one in comparisons))
        code = self._lib.seccomp_rule_add_array(self._context, action, number, len(comparisons), array)
        if code:
            raise OSError(-code, f"seccomp rule for {call}")

    def load(self) -> None:
        if code := self._lib.seccomp_load(self._context):
            raise OSError(-code, "seccomp_load")


def directives(unit: Path) -> dict[str, list[str]]:
    """The values of each directive of a unit, in their order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found.setdefault(key, []).append(value)
    return found


def members(name: str) -> set[str]:
    """A system call, or those of a group such as @system-service, as this machine's systemd knows them."""
    if not name.startswith("@"):
        return {name}
    argv = ["systemd-analyze", "syscall-filter", name]
    # Programs of systemd 254 or newer tell the one that waits for this service how they ended (EXIT_STATUS=0).
    quiet = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30, env=quiet)
    lines = done.stdout.splitlines()[1:]
    inner = {line.strip() for line in lines} - {""}
    return set().union(*(members(one) for one in inner if not one.startswith("#")))


def allowed_calls(filters: Iterable[str]) -> set[str]:
    """What the SystemCallFilter= lines allow: an allow-list, ~ takes away (systemd.exec(5))."""
    allowed = members("@default")
    for line in filters:
        calls = set().union(*(members(name) for name in line.removeprefix("~").split()))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def confine(unit: Path) -> None:
    """Put the unit's rules on this process."""
    said = directives(unit)
    assert said["NoNewPrivileges"] == said["MemoryDenyWriteExecute"] == ["yes"]
    families = {int(getattr(socket, name)) for name in said["RestrictAddressFamilies"][0].split()}
    calls = Filter(_EPERM)
    for call in sorted(allowed_calls(said["SystemCallFilter"]) - {"socket"}):
        calls.add(_ALLOW, call)
    for family in sorted(families):
        calls.add(_ALLOW, "socket", (0, _MASKED_EQUAL, 0xFFFFFFFF, family))
    memory = Filter(_ALLOW)
    memory.add(_EPERM, "mmap", (2, _MASKED_EQUAL, _PROT_WRITE | _PROT_EXEC, _PROT_WRITE | _PROT_EXEC))
    for call in ("mprotect", "pkey_mprotect"):
        memory.add(_EPERM, call, (2, _MASKED_EQUAL, _PROT_EXEC, _PROT_EXEC))
    memory.add(_EPERM, "shmat", (2, _MASKED_EQUAL, _SHM_EXEC, _SHM_EXEC))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    memory.load()
    calls.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
