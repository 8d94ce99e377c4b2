"""What the kernel says of the peer of a connection: who it is (unix(7)), and how much it has taken (tcp(7))."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import socket
import struct
import termios
from ipaddress import IPv4Address, IPv6Address, ip_address

from provision.net.sources import by_loopback

_PEERCRED = struct.Struct("3i")
_SO_PEERGROUPS = 59  # socket(7)
_MAX_GROUPS = 256
_OPTION_BYTES = 40
# struct tcp_info, linux/tcp.h: the connection's state, and how many bytes were acknowledged.
_TCP_INFO, _CLOSED = struct.Struct("=B119xQ"), 7
_LINGER = struct.Struct("ii")  # socket(7)


def credentials(sock: socket.socket) -> tuple[int, int, tuple[int, ...]]:
    """Process id, user id and all group ids of the process at the other end of a Unix socket."""
    with socket.socket(fileno=socket.dup(sock.fileno())) as real:
        pid, uid, gid = _PEERCRED.unpack(real.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        return pid, uid, (gid, *_groups(real))


def client_of(sock: socket.socket, client: tuple[str, int]) -> tuple[str, int]:
    """The client of a TCP connection that is known as `client`: a NAT rule can give a local process any address, also a
    host's, and it is local all the same."""
    if by_loopback(sock.fileno()):
        return "127.0.0.1", client[1]
    return client if sock.family == socket.AF_INET else (plain(client[0]), client[1])


def plain(address: str) -> str:
    """An address without what a socket of IPv6 adds: IPv4 is IPv4 (RFC 4291 section 2.5.5.2), and a zone goes."""
    found = ip_address(address)
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Address(int(found)))


def is_routed(sock: socket.socket) -> bool:
    """Whether a connection came with IP options (RFC 791). Answers carry them back: with a source route they go to the
    machine that it names, and not to the peer's address."""
    if sock.family != socket.AF_INET:
        return False
    # Every connection is asked: a second descriptor would take as long as the answer.
    real = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, sock.fileno())
    try:
        return bool(real.getsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _OPTION_BYTES))
    finally:
        real.detach()


def reset(sock: socket.socket) -> None:
    """Reset a TCP connection now, with all that the kernel holds of it, however many descriptors it has (connect(2),
    AF_UNSPEC). Harmless when it has ended."""
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    ctypes.CDLL(None).connect(sock.fileno(), nowhere, len(nowhere))


def _groups(sock: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of the process at the other end; none when it has more than 256."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def reset_at_close(sock: socket.socket, reset: bool) -> None:
    """Whether closing the connection throws away what is not sent (SO_LINGER), or sends it, as usual. Else the kernel
    goes on to send megabytes, to wherever the peer's MAC then is."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(reset, 0))


def queued(sock: socket.socket) -> int:
    """Bytes in the kernel's send queue (SIOCOUTQ). Raises OSError."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])


def progress(sock: socket.socket) -> tuple[bool, int]:
    """Whether a TCP connection has ended, and how many bytes its peer has acknowledged (TCP_INFO). Raises OSError."""
    state, acked = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    return state == _CLOSED, int(acked)


def unacknowledged(transport: asyncio.Transport) -> int:
    """`queued` of a transport; 0 when that cannot be told."""
    try:
        return queued(transport.get_extra_info("socket"))
    except (OSError, ValueError, AttributeError):
        return 0


def acknowledged(transport: asyncio.Transport) -> int | None:
    """Bytes that the peer of a transport has acknowledged since it connected; None when that cannot be told."""
    try:
        return progress(transport.get_extra_info("socket"))[1]
    except (OSError, struct.error, AttributeError):
        return None
