"""Becomes another program that may do next to nothing, on amd64: `python -I confined.py [--threads] PROGRAM ...`

The program runs as nobody, with no group, capability or environment, cannot gain a privilege, and can neither start
another program nor make a process: the kernel refuses the calls (seccomp(2)). With `--threads` it may make threads,
which are a part of its one process. It may read what everybody may, and write to its pipes only. Run by provision.proc
for programs that are shown what a stranger may have written.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys

FAILED = 125
"""The exit code when the program could not be confined, or not be started."""

THREADS = "--threads"
"""The option for programs that do nothing without threads."""

_NOBODY = 65534
_DESCRIPTOR = 200
"""The program's own file, which the one call that is left may start; closed by that."""

_NO_NEW_PRIVS, _SECCOMP, _BOUNDING_DROP, _AMBIENT = 38, 22, 24, 47
_FILTER_MODE, _AMBIENT_CLEAR_ALL = 2, 4
_AT_EMPTY_PATH = 0x1000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001
_AMD64, _X32 = 0xC000003E, 0x40000000
_NUMBER, _ARCHITECTURE, _FIRST, _FIFTH = 0, 4, 16, 48
_EXECVEAT, _CLONE, _CLONE3 = 322, 56, 435
_ANY_BIT, _CLONE_THREAD, _MISSING = 0x45, 0x10000, 0x00050026
_REFUSED = {
    "socket": 41,
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "execve": 59,
    "kill": 62,
    "ptrace": 101,
    "tkill": 200,
    "tgkill": 234,
    "io_uring_setup": 425,
    "clone3": 435,
}
"""Numbers of system calls on amd64."""


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def rules(threads: bool = False) -> bytes:
    """The filter as the kernel takes it: struct sock_filter of linux/filter.h over struct seccomp_data."""
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, _AMD64, yes=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, no=1),
        _instruction(_RETURN, _KILL),
    ]
    if threads:
        program += [
            # Its flags are in memory, which a filter cannot read. Where it is missing, the C library uses clone.
            _instruction(_EQUAL, _CLONE3, no=1),
            _instruction(_RETURN, _MISSING),
            _instruction(_EQUAL, _CLONE, no=4),
            _instruction(_LOAD, _FIRST),
            _instruction(_ANY_BIT, _CLONE_THREAD, no=1),
            _instruction(_RETURN, _ALLOW),
            _instruction(_RETURN, _REFUSE),
        ]
    for number in _REFUSED.values():
        program += [_instruction(_EQUAL, number, no=1), _instruction(_RETURN, _REFUSE)]
    program += [
        _instruction(_EQUAL, _EXECVEAT, yes=1),
        _instruction(_RETURN, _ALLOW),
        # Only this file, by its descriptor: execveat(2) with AT_EMPTY_PATH.
        _instruction(_LOAD, _FIRST),
        _instruction(_EQUAL, _DESCRIPTOR, yes=1),
        _instruction(_RETURN, _REFUSE),
        _instruction(_LOAD, _FIFTH),
        _instruction(_EQUAL, _AT_EMPTY_PATH, yes=1),
        _instruction(_RETURN, _REFUSE),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def confine(threads: bool = False) -> None:
    """Take everything from this process that it does not need; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(*arguments: object) -> None:
        if libc.prctl(*arguments, *[0] * (5 - len(arguments))):
            raise OSError(ctypes.get_errno(), "prctl")

    if os.geteuid() == 0:
        for capability in range(64):
            if libc.prctl(_BOUNDING_DROP, capability, 0, 0, 0):
                break  # the kernel knows no more
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, 60),
        (resource.RLIMIT_AS, 1 << 30),
    ):
        resource.setrlimit(kind, (most, most))
    prctl(_NO_NEW_PRIVS, 1)
    filters = rules(threads)
    buffer = ctypes.create_string_buffer(filters, len(filters))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters) // 8, ctypes.addressof(buffer)), 16)
    prctl(_SECCOMP, _FILTER_MODE, ctypes.byref(program))


def main(argv: list[str]) -> None:
    """Become the program that `argv` names, after the option."""
    threads, argv = argv[0] == THREADS, argv[argv[0] == THREADS :]
    try:
        if platform.machine() != "x86_64":
            raise OSError(0, "this is not amd64")
        found = os.open(argv[0], os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(found, _DESCRIPTOR, inheritable=False)
        os.chdir("/")
        os.umask(0o077)
        confine(threads)
        os.execve(_DESCRIPTOR, argv, {})
    except OSError as error:
        sys.stderr.write(f"cannot be confined: {error.strerror}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
