"""Sockets bound to one interface *and* to its address, so that the channel of a request is what the socket says.

Bound to the address alone, a packet that comes in through another NIC reaches it (weak host model, RFC 1122 section
3.3.4.2); bound to the device alone, any destination address does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from provision.errors import Unavailable
from provision.net.interfaces import look

_SIOCGIFMTU = 0x8921  # netdevice(7)

BACKLOG = 1024
"""Connections the kernel may hold before we accept them."""


def _unavailable(error: OSError, interface: str, address: IPv4Address, port: int, protocol: str) -> Unavailable:
    where = f"{protocol} {address}:{port} on {interface}"
    if error.errno == errno.EADDRINUSE:
        return Unavailable(where, "the port is taken", f"see 'ss -lnp sport = :{port}', or set another port")
    if error.errno == errno.ENODEV:
        return Unavailable(where, f"there is no interface {interface}", "see 'ip link', or correct the setting")
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(where, f"{interface} does not have {address}", f"see 'ip -4 addr show dev {interface}'")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unavailable(where, "not permitted", "give the service CAP_NET_BIND_SERVICE, or set a port above 1023")
    return Unavailable(where, f"could not be bound ({error.strerror})", "correct the setting")


def _has_address(interface: str, address: IPv4Address) -> bool:
    if address.is_unspecified:  # refused by check_binding unless the operator overrides it
        return True
    found = look().interfaces.get(interface)
    return found is not None and any(own.ip == address for own in found.addresses)


def _bind(interface: str, address: IPv4Address | str, port: int, kind: socket.SocketKind) -> socket.socket:
    address, protocol = IPv4Address(address), "TCP" if kind is socket.SOCK_STREAM else "UDP"
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.setblocking(False)
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        # The kernel lets any local address be bound whatever the device is; such a socket would never hear a packet.
        if not _has_address(interface, address):
            raise OSError(errno.EADDRNOTAVAIL, "not on this interface")
        sock.bind((str(address), port))
        if kind is socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _unavailable(error, interface, address, port, protocol) from None
    except BaseException:
        sock.close()
        raise
    return sock


def bind_tcp(interface: str, address: IPv4Address | str, port: int) -> socket.socket:
    """A listening, non-blocking TCP socket on that interface and address; raises Unavailable naming the way out."""
    return _bind(interface, address, port, socket.SOCK_STREAM)


def bind_udp(interface: str, address: IPv4Address | str, port: int) -> socket.socket:
    """A non-blocking UDP socket on that interface and address (port 0: any); raises Unavailable as `bind_tcp` does."""
    return _bind(interface, address, port, socket.SOCK_DGRAM)


def bind_any(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    """A listening, non-blocking TCP socket on an address, whatever interface its packets come in by: for those who are
    asked who they are. The wildcard of IPv6 hears IPv4 too. Raises Unavailable naming the way out."""
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.is_unspecified)
        sock.bind((str(address), port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _unbound(error, address, port) from None
    return sock


def _unbound(error: OSError, address: IPv4Address | IPv6Address, port: int) -> Unavailable:
    where = f"TCP [{address}]:{port}" if isinstance(address, IPv6Address) else f"TCP {address}:{port}"
    if error.errno == errno.EADDRINUSE:
        return Unavailable(where, "the port is taken", f"see 'ss -lnp sport = :{port}', or set another port")
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(where, "the server does not have the address", "see 'ip addr', or correct [api]")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unavailable(where, "not permitted", "give the service CAP_NET_BIND_SERVICE, or set a port above 1023")
    return Unavailable(where, f"could not be bound ({error.strerror})", "correct [api]")


def sibling(sock: socket.socket, port: int, prepare: Callable[[socket.socket], None] | None = None) -> socket.socket:
    """A UDP socket on the same device and address as the UDP socket `sock`, without asking the kernel for more.

    `prepare` is called with it before it can receive anything.
    Raises OSError (EADDRINUSE) when the port is taken: the caller tries the next one.
    """
    device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        other.setblocking(False)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        if prepare is not None:
            prepare(other)
        other.bind((sock.getsockname()[0], port))
    except BaseException:
        other.close()
        raise
    return other


def mtu_of(sock: socket.socket) -> int:
    """The MTU of the interface that `sock` is bound to, in bytes; 1500 when it cannot be told."""
    device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")
    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFMTU, struct.pack("16si", device, 0).ljust(40, b"\0"))
    except OSError:
        return 1500
    return int(struct.unpack_from("16si", answer)[1])


def bind_unix(path: Path, group: int | None = None) -> socket.socket:
    """A listening, non-blocking Unix socket at `path`, mode 0600, or 0660 for the group id `group`.

    A socket that a dead process left there is replaced; a living one, or another kind of file, is Unavailable.
    """
    where = f"socket {path}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if path.exists():
            if not path.is_socket():
                raise Unavailable(where, "another kind of file is there", "remove it, or set another path")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise Unavailable(where, "another service listens there", "stop it first")
            path.unlink()
        # Nobody connects before listen(), so the mode is set in time.
        sock.bind(str(path))
        path.chmod(0o600 if group is None else 0o660)
        if group is not None:
            os.chown(path, -1, group)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Unavailable(where, f"could not be made ({error.strerror or error})", "set another path") from None
    except BaseException:
        sock.close()
        raise
    return sock
