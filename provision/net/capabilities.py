"""What this thread may do beyond its user (capabilities(7)), and how it gives that up."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

from provision.errors import Unavailable

NET_ADMIN, NET_RAW = 12, 13  # linux/capability.h

_VERSION_3 = 0x20080522  # capset(2)
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_LAST = 63


def held() -> frozenset[int]:
    """The numbers of the permitted capabilities of the calling thread."""
    found = re.search(r"^CapPrm:\s*([0-9a-f]+)$", Path("/proc/thread-self/status").read_text(), re.MULTILINE)
    mask = int(found[1], 16) if found else 0
    return frozenset(n for n in range(_LAST + 1) if mask >> n & 1)


def keep(wanted: Iterable[int]) -> None:
    """Give up every capability but `wanted` (of those held), in this thread and in whatever it starts from now on.

    The kernel does it for one thread, so it has to be done before there is a second one. Raises Unavailable.
    """
    mask = sum(1 << n for n in held() & frozenset(wanted))
    libc = ctypes.CDLL(None, use_errno=True)
    # In older kernels, or with a filter of system calls, there may be nothing to clear: then nothing is inherited.
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("=Ii", _VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    if libc.capset(header, data) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise Unavailable("provision", f"cannot give up its capabilities ({reason})", "look at what confines it")


def forbid_more() -> None:
    """Never gain a privilege again, by executing whatever program."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(_LAST + 1):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # as far as the kernel knows it, and we may
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
