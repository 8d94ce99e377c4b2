"""Who is behind an address, as the kernel's neighbour table says it; and which addresses are the server's own.

The hot path is a dictionary look-up: a thread keeps the dictionary equal to the kernel's table by its notifications, so
an answer is at most one message old. A peer that is not in the table is solicited: a datagram makes the kernel ask by
ARP.

What the kernel has recorded and what it has confirmed lately are two things: an entry that is stale, or being probed,
says who had the address once. `net/pins.py` asks that machine itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl import ndmsg

from provision.net import attributes, fdb, netlink, routes
from provision.net.interfaces import Link, Machine, link_of, look

SOLICIT_SECONDS = 1.0
"""How long a peer has time to answer ARP; the kernel asks three times in three seconds, firmware answers in 50 ms."""

_DISCARD_PORT = 9  # RFC 863
_USABLE = ndmsg.NUD_REACHABLE | ndmsg.NUD_STALE | ndmsg.NUD_DELAY | ndmsg.NUD_PROBE | ndmsg.NUD_PERMANENT
_CONFIRMED = ndmsg.NUD_REACHABLE | ndmsg.NUD_PERMANENT
# linux/neighbour.h; struct ndmsg is family, padding, interface, state, flags, type.
_NDA_DST, _NDA_LLADDR = 1, 2
_NDMSG = struct.Struct("=BxxxiHBB")
_ADDRESS_BYTES = 4
_TABLES = ((rtnl.RTM_GETADDR, socket.AF_INET), (rtnl.RTM_GETNEIGH, socket.AF_INET))
_MACHINE_NEWS = (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK, rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR, netlink.RTM_NEWNETCONF)
_ROUTE_NEWS = (rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE)
_Key = tuple[int, str]
_Known = tuple[str, int]
"""A MAC, and the state in which the kernel has it (NUD_…)."""


def _entry(kind: int, body: bytes) -> tuple[_Key, _Known | None] | None:
    """What a message says: the neighbour, and what is known of it or None; None for one that is no IPv4 neighbour."""
    family, ifindex, state, flags, _ = _NDMSG.unpack_from(body)
    if family != socket.AF_INET or flags & ndmsg.NTF_PROXY:
        return None
    found = dict(attributes.unpack(body[_NDMSG.size :]))
    address, mac = found.get(_NDA_DST, b""), found.get(_NDA_LLADDR)
    if len(address) != _ADDRESS_BYTES:
        return None
    usable = kind == rtnl.RTM_NEWNEIGH and state & _USABLE
    return (ifindex, socket.inet_ntoa(address)), ((mac.hex(":"), state) if usable and mac else None)


def solicit(ifindex: int, address: str) -> None:
    """Make the kernel ask for `address` on that interface: one empty datagram to the discard port; needs no privilege.

    An unreachable peer is not an error here: the answer is the neighbour entry, or its absence.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, socket.if_indextoname(ifindex).encode() + b"\0")
        sock.sendto(b"", (address, _DISCARD_PORT))


def _permanent(found: _Known | None) -> str | None:
    return found[0] if found and found[1] & ndmsg.NUD_PERMANENT else None


class Neighbours:
    """The kernel's IPv4 neighbours and the server's own addresses, kept fresh. Safe to use from any thread."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[], None]] = []
        self._link_watchers: list[Callable[[Link], None]] = []
        self._fdb_watchers: list[Callable[[fdb.Entry], None]] = []
        self._macs: dict[_Key, _Known] = {}
        self._pins: dict[_Key, Callable[[str | None], None]] = {}
        self._own: set[tuple[int, str]] = set()
        self._local: frozenset[str] = frozenset()
        self._waiting: dict[_Key, set[Future[str]]] = {}
        self._lock = threading.Lock()
        self._monitor = netlink.Monitor(self._take, self._reset, _TABLES, self._tell_all)

    def start(self) -> Neighbours:
        """Begin to follow the kernel; returns itself. Raises Unavailable when netlink does not work."""
        self._monitor.start()
        return self

    def close(self) -> None:
        """Stop following the kernel."""
        self._monitor.close()

    def __enter__(self) -> Neighbours:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def known(self, ifindex: int, address: IPv4Address | str) -> str | None:
        """The peer's MAC as the kernel has it recorded, however long ago; never waits."""
        found = self._macs.get((ifindex, str(address))) if self._monitor.synced.is_set() else None
        return found[0] if found else None

    def confirmed(self, ifindex: int, address: IPv4Address | str) -> str | None:
        """The peer's MAC when the kernel has heard of it within its own time (base_reachable_time); never waits."""
        found = self._macs.get((ifindex, str(address))) if self._monitor.synced.is_set() else None
        return found[0] if found and found[1] & _CONFIRMED else None

    def confirmed_now(self, ifindex: int, address: IPv4Address | str) -> str | None:
        """The same, asked of the kernel: on a busy machine its notifications may be late. Reads one entry, in about 0.1
        ms."""
        question = _NDMSG.pack(socket.AF_INET, ifindex, 0, 0, 0) + attributes.pack(
            _NDA_DST, IPv4Address(address).packed
        )
        for answer in netlink.ask(rtnl.RTM_GETNEIGH, 0, question):
            _, _, state, _, _ = _NDMSG.unpack_from(answer)
            mac = dict(attributes.unpack(answer[_NDMSG.size :])).get(_NDA_LLADDR)
            if mac and state & _CONFIRMED:
                return mac.hex(":")
        return None

    def watch(self, ifindex: int, address: IPv4Address | str, told: Callable[[str | None], None] | None) -> None:
        """From now on call `told` with the MAC that the address is permanently at, or None, at every notification of
        its entry; None ends it. There is one watcher of an address, and it is called in the thread that reads
        notifications."""
        key = (ifindex, str(address))
        with self._lock:
            if told is None:
                self._pins.pop(key, None)
            else:
                self._pins[key] = told

    def _tell_all(self) -> None:
        """News were lost, and everything has been learnt anew: entries of which nothing was said are gone."""
        with self._lock:
            told = [(call, _permanent(self._macs.get(key))) for key, call in self._pins.items()]
        for call, mac in told:
            call(mac)

    def is_local(self, address: IPv4Address | str) -> bool:
        """Whether a peer is this server itself: one of its addresses, or loopback (all of 127.0.0.0/8)."""
        text = str(address)
        return text in self._local or text.startswith("127.")

    async def find_mac(self, ifindex: int, address: IPv4Address | str, timeout: float = SOLICIT_SECONDS) -> str | None:
        """The peer's MAC ("52:54:00:…") on that interface; solicits and waits up to `timeout` seconds, then None.

        The kernel is not asked for its entry: its table may be long, and a machine that sends requests with many false
        addresses would make us read all of it for each. What we do not know yet, a notification tells us in
        milliseconds.
        """
        key = (ifindex, str(address))
        mac = self.known(*key)
        if mac is not None:
            return mac
        future = self._wait_for(key)
        try:
            async with asyncio.timeout(timeout):
                solicit(*key)
                return await asyncio.wrap_future(future)
        except TimeoutError:
            return None
        finally:
            self._forget(key, future)

    async def changes(self, settle: float = 0.2) -> AsyncIterator[Machine]:
        """What the machine looks like now, and again each time that a link, a bridge port, an address, a default
        route or a forwarding switch has changed and `settle` seconds have gone by."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def watcher() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._watchers.append(watcher)
        try:
            while True:
                changed.clear()
                yield await asyncio.to_thread(look)
                await changed.wait()
                await asyncio.sleep(settle)
        finally:
            self._watchers.remove(watcher)

    def watch_links(self, watcher: Callable[[Link], None]) -> Callable[[], None]:
        """Give `watcher` every link that the kernel tells of, in the thread that reads notifications, and at that
        moment: a port that joins a bridge is told before anything waits. It must be quick. Returns what ends it."""
        self._link_watchers.append(watcher)
        return lambda: self._link_watchers.remove(watcher)

    def watch_fdb(self, watcher: Callable[[fdb.Entry], None]) -> Callable[[], None]:
        """The same for a MAC that a bridge has learned, or learned anew on another port; `fresh` is false for one that
        it has forgotten. A machine on a bridge can cause many: without a watcher they are not even decoded."""
        self._fdb_watchers.append(watcher)
        return lambda: self._fdb_watchers.remove(watcher)

    def _wait_for(self, key: _Key) -> Future[str]:
        future: Future[str] = Future()
        with self._lock:
            found = self._macs.get(key)
            if found is not None:
                future.set_result(found[0])
            else:
                self._waiting.setdefault(key, set()).add(future)
        return future

    def _forget(self, key: _Key, future: Future[str]) -> None:
        with self._lock:
            waiting = self._waiting.get(key, set())
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(key, None)

    def _reset(self) -> None:
        with self._lock:
            self._macs.clear()
            self._own.clear()

    def _take(self, message: Any) -> None:
        kind = message["header"]["type"]
        if kind in (rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH):
            take = self._take_bridge if message["family"] == socket.AF_BRIDGE else self._take_neighbour
            take(kind, message["body"])
        elif kind in (rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR):
            self._take_address(message, kind == rtnl.RTM_NEWADDR)
        elif kind == rtnl.RTM_DELLINK and message["family"] == socket.AF_UNSPEC:
            self._drop_interface(message["index"])
        if kind == rtnl.RTM_NEWLINK and self._link_watchers and (link := link_of(message)) is not None:
            for told in tuple(self._link_watchers):
                told(link)
        if kind in _MACHINE_NEWS or (kind in _ROUTE_NEWS and routes.matters(message)):
            for watcher in tuple(self._watchers):
                watcher()

    def _take_bridge(self, kind: int, body: bytes) -> None:
        watchers = tuple(self._fdb_watchers)
        entry = fdb.parse(body) if watchers else None
        if entry is not None:
            for watcher in watchers:
                watcher(replace(entry, fresh=False) if kind == rtnl.RTM_DELNEIGH else entry)

    def _take_neighbour(self, kind: int, body: bytes) -> None:
        entry = _entry(kind, body)
        if entry is None:
            return
        key, found = entry
        with self._lock:
            watcher = self._pins.get(key) if self._monitor.synced.is_set() else None
            if found is None:
                self._macs.pop(key, None)
            else:
                self._macs[key] = found
            waiting = self._waiting.pop(key, set()) if found else set()
        if watcher is not None:
            watcher(_permanent(found))
        for future in waiting:
            if found and future.set_running_or_notify_cancel():
                future.set_result(found[0])

    def _take_address(self, message: Any, present: bool) -> None:
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if message["family"] != socket.AF_INET or address is None:
            return
        (self._own.add if present else self._own.discard)((message["index"], str(address)))
        self._local = frozenset(text for _, text in self._own)

    def _drop_interface(self, ifindex: int) -> None:
        with self._lock:
            for key in [k for k in self._macs if k[0] == ifindex]:
                del self._macs[key]
