"""Questions to the kernel's routing tables and notifications from them, over rtnetlink (RFC 3549).

The socket is our own, because pyroute2's blocking API cannot be called while an event loop runs in the same thread;
pyroute2 decodes the messages.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, rtnl
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from provision.errors import Unavailable

RTM_NEWNETCONF = 80
"""A sysctl of net.ipv4.conf, such as forwarding, has changed; pyroute2 has no name for it (linux/rtnetlink.h)."""

_RTNLGRP_IPV4_NETCONF, _RTNLGRP_IPV6_NETCONF = 24, 25
GROUPS = (
    rtnl.RTMGRP_LINK
    | rtnl.RTMGRP_NEIGH  # of IPv4, and of bridges: which port a MAC was learned on
    | rtnl.RTMGRP_IPV4_IFADDR
    | rtnl.RTMGRP_IPV4_ROUTE
    | rtnl.RTMGRP_IPV6_ROUTE
    | 1 << (_RTNLGRP_IPV4_NETCONF - 1)
    | 1 << (_RTNLGRP_IPV6_NETCONF - 1)
)

_HEADER = struct.Struct("=IH10x")  # struct nlmsghdr: length, type, flags, sequence number, port id
_RECEIVE_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20
# A request's body is its table's fixed header, which begins with the address family; zeros after it mean "all".
_BODY_BYTES = {rtnl.RTM_GETLINK: 16, rtnl.RTM_GETADDR: 8, rtnl.RTM_GETROUTE: 12, rtnl.RTM_GETNEIGH: 12}

_log = logging.getLogger(__name__)
_new_marshal: Callable[[], Any] = MarshalRtnl
Message = Any
Handler = Callable[[Message], None]


def _open(groups: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.bind((0, groups))
    except OSError as error:
        raise Unavailable("netlink", f"the kernel refused a socket ({error.strerror})", "allow AF_NETLINK") from None
    return sock


def _request(sock: socket.socket, kind: int, family: int) -> None:
    body = bytes([family]).ljust(_BODY_BYTES[kind], b"\0")
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)


def _receive(sock: socket.socket, marshal: Any) -> Iterator[Message]:
    """Decode one datagram; only the kernel (port id 0) may speak. Neighbours come with their "body" as it is."""
    data, sender = sock.recvfrom(_RECEIVE_BYTES)
    while sender[0] == 0 and len(data) > _HEADER.size:
        length, kind = _HEADER.unpack_from(data)
        if length <= _HEADER.size:
            return
        if kind in (rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH):
            # Machines can cause thousands of these in a second, and pyroute2 takes half a millisecond for three.
            yield {"header": {"type": kind}, "family": data[_HEADER.size], "body": data[_HEADER.size : length]}
        else:
            yield from marshal.parse(data[:length])
        data = data[(length + 3) & ~3 :]


def ask(kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """The bodies of the kernel's answers to one question, undecoded; closing the iterator early leaves the rest unread.

    `body` is the table's header and attributes. An error of the kernel (ENOENT: there is no such entry) ends it.
    Raises Unavailable when the kernel does not answer.
    """
    with _open(0) as sock:
        sock.settimeout(5.0)
        try:
            sock.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, 1, 0) + body)
            while True:
                data, sender = sock.recvfrom(_RECEIVE_BYTES)
                offset = 0 if sender[0] == 0 else len(data)
                while offset < len(data):
                    length, answer = struct.unpack_from("=IH", data, offset)
                    if answer in (NLMSG_DONE, NLMSG_ERROR):
                        return
                    yield data[offset + 16 : offset + length]
                    offset += (length + 3) & ~3
                if not flags & NLM_F_DUMP:
                    return
        except OSError as error:
            raise Unavailable("netlink", f"the kernel did not answer ({error})", "look at the journal") from None


def dump(kind: int, family: int = socket.AF_INET) -> list[Message]:
    """All messages of one table: `kind` is RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE or RTM_GETNEIGH.

    Takes 1 to 5 ms, so nothing calls it on a hot path. Raises Unavailable when the kernel does not answer.
    """
    marshal = _new_marshal()
    found: list[Message] = []
    with _open(0) as sock:
        sock.settimeout(5.0)
        try:
            _request(sock, kind, family)
            while True:
                for message in _receive(sock, marshal):
                    if message["header"]["type"] == NLMSG_DONE:
                        return found
                    if message["header"]["type"] == NLMSG_ERROR:
                        raise Unavailable("netlink", "the kernel refused a question", "look at the journal")
                    found.append(message)
        except OSError as error:
            raise Unavailable("netlink", f"the kernel did not answer ({error})", "look at the journal") from None


class Monitor:
    """One thread that reads the kernel's notifications and hands every message to each handler, in the kernel's order.

    `tables` are dumped through the same handlers at the start and after every loss of notifications; `on_reset` is
    called before that, and then everything learnt so far has to be forgotten. After such a dump `synced` is set, and
    `on_synced` is called.
    """

    def __init__(
        self,
        handler: Handler,
        on_reset: Callable[[], None],
        tables: Sequence[tuple[int, int]],
        on_synced: Callable[[], None] = lambda: None,
    ) -> None:
        self._handler, self._on_reset, self._tables = handler, on_reset, tables
        self._on_synced = on_synced
        self._marshal = _new_marshal()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stopping = False
        self.synced = threading.Event()
        self._socket = _open(GROUPS)
        self._thread = threading.Thread(target=self._run, name="netlink", daemon=True)

    def start(self) -> None:
        """Begin, and wait until the tables are known; raises Unavailable when the kernel stays silent."""
        self._thread.start()
        if not self.synced.wait(10.0):
            self.close()
            raise Unavailable("netlink", "the kernel did not list its neighbours and addresses", "look at the journal")

    def close(self) -> None:
        """Stop the thread and close the socket."""
        if self._stopping:
            return
        self._stopping = True
        os.write(self._wake_write, b"x")
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        while not self._stopping:
            try:
                if not self.synced.is_set():
                    self._resync()
                poll.poll()
                if not self._stopping:
                    for message in _receive(self._socket, self._marshal):
                        self._give(message)
            except (OSError, Unavailable) as error:
                self.synced.clear()
                if not isinstance(error, OSError) or error.errno != errno.ENOBUFS:
                    _log.error("netlink: reading the kernel's notifications failed (%s); starting again", error)
                    select.select([self._wake_read], [], [], 1.0)

    def _resync(self) -> None:
        """Learn everything anew. What arrives during the dump is read after it, and wins."""
        self._pending(use=False)
        self._on_reset()
        for kind, family in self._tables:
            for message in dump(kind, family):
                self._give(message)
        self._pending(use=True)
        self.synced.set()
        self._on_synced()

    def _pending(self, use: bool) -> None:
        """Take the notifications that have already arrived, or throw them away."""
        self._socket.setblocking(False)
        try:
            while not self._stopping:
                for message in _receive(self._socket, self._marshal):
                    if use:
                        self._give(message)
        except BlockingIOError:
            return
        finally:
            self._socket.setblocking(True)

    def _give(self, message: Message) -> None:
        try:
            self._handler(message)
        except Exception as error:
            _log.error("netlink: a message could not be used (%r)", error)
