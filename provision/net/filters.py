"""Filters in the kernel for what a socket receives (classic BPF, socket(7) SO_ATTACH_FILTER).

For a UDP socket they need no privilege; for TCP newer kernels want CAP_NET_ADMIN.

A transfer's socket takes packets of one MAC only. The kernel looks at the frame's own source for that, which nobody
sees who reads from the socket.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand (linux/filter.h, struct sock_filter)."""

MOST = 4096
"""Instructions of one filter (BPF_MAXINSNS)."""

LINK_LAYER, NETWORK = -0x200000, -0x100000
"""SKF_LL_OFF and SKF_NET_OFF: offsets from here on count from the first byte of the frame, or of the packet in it,
whatever layer the socket is at."""

INTERFACE = -0x1000 + 8
"""SKF_AD_IFINDEX: the "offset" of the index of the interface by which the packet came."""

_SO_ATTACH_FILTER, _SIZE = 26, 8
_LD_WORD, _LD_HALF, _TAX, _TXA, _AND, _JEQ, _JA, _RET = 0x20, 0x28, 0x07, 0x87, 0x54, 0x15, 0x05, 0x06
_ALL = 0xFFFFFFFF


def load_word(offset: int) -> Instruction:
    """Load the four bytes at `offset`."""
    return _LD_WORD, 0, 0, offset & _ALL


def load_byte_pair(offset: int) -> Instruction:
    """Load the two bytes at `offset`."""
    return _LD_HALF, 0, 0, offset & _ALL


def keep() -> Instruction:
    """Keep what was loaded for `kept`."""
    return _TAX, 0, 0, 0


def kept() -> Instruction:
    """Load what was kept."""
    return _TXA, 0, 0, 0


def mask(bits: int) -> Instruction:
    """Leave only these bits of what was loaded."""
    return _AND, 0, 0, bits


def jump(value: int, *, yes: int, no: int) -> Instruction:
    """Compare what was loaded with `value`, and skip so many instructions."""
    return _JEQ, yes, no, value


def skip(count: int) -> Instruction:
    """Skip so many instructions, more than `jump` can."""
    return _JA, 0, 0, count


def ret(take: bool) -> Instruction:
    """Take the whole packet, or drop it."""
    return _RET, 0, 0, _ALL if take else 0


def take_from(mac: bytes) -> list[Instruction]:
    """Take what came in a frame from `mac`, and go on with anything else."""
    high, low = struct.unpack("!IH", mac)
    return [
        load_word(LINK_LAYER + 6),
        jump(high, yes=0, no=3),
        load_byte_pair(LINK_LAYER + 10),
        jump(low, yes=0, no=1),
        ret(True),
    ]


def from_mac(mac: bytes) -> list[Instruction]:
    """Takes what came in a frame from `mac`, for a UDP or TCP socket. What came in no frame at all is dropped."""
    return [*take_from(mac), ret(False)]


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """From now on `sock` receives only what `program` takes; replaces an earlier one at once. Raises OSError.

    What was received before stays in the socket's queue.
    """
    attach_packed(sock, packed(program))


def packed(program: Sequence[Instruction]) -> bytes:
    """The instructions as the kernel wants them."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def attach_packed(sock: socket.socket, code: bytes) -> None:
    """`attach` for a program that is packed already."""
    held = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they are.
    fprog = struct.pack("@HP", len(code) // _SIZE, ctypes.addressof(held))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
