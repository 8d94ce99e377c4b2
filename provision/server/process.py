"""What holds for every process that opens secrets."""

from __future__ import annotations

import ctypes
import os
import resource

from provision.errors import Unavailable

_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_core_dumps() -> None:
    """Keep this process's memory out of core files, and out of reach of a debugger of the same user.

    The limit alone is not enough: a core_pattern that pipes to a program ignores it (core(5)). Raises Unavailable.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise Unavailable("provision", f"cannot forbid core dumps ({reason})", "look at what confines the process")
