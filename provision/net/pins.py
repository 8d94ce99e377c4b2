"""Whether a machine is at its address now, and the address kept at that machine for as long as secrets are under way.

The kernel sends to whatever MAC ARP told it last. So before a secret leaves, the recorded MAC itself is asked, the
sender of the answer's frame is looked at (`net/pinner.py`), and the neighbour entry is made permanent: whatever anybody
says by ARP then, frames go to that MAC, and what others send does not reach the transfer's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from provision import proc
from provision.errors import Unavailable
from provision.net import filters
from provision.net.arp import mac_bytes
from provision.net.neighbours import Neighbours

_READY_SECONDS = 20.0
_SEEN_SECONDS = 2.0
"""How long the kernel's own notification of a new entry may take to arrive."""

_MOST_UNSAID = 4096  # more than all connections and transfers ask at a time
_COMPLAIN_SECONDS = 10.0
_NO: dict[str, Any] = {"ok": False}
_log = logging.getLogger(__name__)
_Key = tuple[int, str]


@dataclass(frozen=True)
class Place:
    """Where a machine is asked for: interface index there, the server's own address, the machine's address and MAC."""

    ifindex: int
    own: IPv4Address
    address: IPv4Address
    mac: str


@dataclass(frozen=True)
class Helper:
    """The process, and the socket to it; it ends when that is closed."""

    control: socket.socket
    process: proc.Companion

    def close(self) -> None:
        """End it, and wait until it has let go of everything."""
        self.control.close()
        with contextlib.suppress(proc.StillRunning):
            self.process.wait(_READY_SECONDS)

    @classmethod
    def start(cls) -> Helper:
        """Start it. It inherits CAP_NET_ADMIN and CAP_NET_RAW, and gives up the second when it has opened its socket.

        Raises Unavailable when it cannot do its work, as without them.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = proc.companion([sys.executable, "-I", "-m", "provision.net.pinner"], theirs)
        ours.settimeout(_READY_SECONDS)
        try:
            said = json.loads(ours.recv(4096) or b"{}")
        except OSError as error:
            said = {"error": str(error)}
        helper = cls(ours, process)
        if "ready" not in said:
            helper.close()
            fact = f"addresses cannot be pinned to MACs ({said.get('error', 'the process ended')})"
            remedy = "give the service CAP_NET_ADMIN and CAP_NET_RAW, as the unit that comes with this version does"
            raise Unavailable("neighbours", fact, remedy)
        return helper


class Pin:
    """An address that is pinned to a MAC until `release`; `lost` when the kernel's entry has changed."""

    def __init__(self, place: Place, pins: Pins, release: Callable[[Pin], None]) -> None:
        self.place, self.lost, self._pins, self._release = place, False, pins, release

    def guard(self, sock: socket.socket) -> None:
        """Let a UDP socket receive nothing but what the MAC itself sends. Raises OSError."""
        filters.attach(sock, filters.from_mac(mac_bytes(self.place.mac)))

    async def guard_stream(self, sock: socket.socket) -> bool:
        """The same for a connected TCP socket; whether it could be done."""
        return await self._pins.filter(sock, filters.from_mac(mac_bytes(self.place.mac)))

    async def reconfirm(self) -> bool:
        """Ask the machine once more whether it is there, as before anything secret is sent again. Until it answers
        nothing goes to it, whatever the kernel would send by itself."""
        return await self._pins.recheck(self.place) and not self.lost

    def release(self) -> None:
        """Let the address go; harmless when done before."""
        release, self._release = self._release, lambda _: None
        release(self)


class _Held:
    """One pinned address: who uses it, and whether the kernel has said that it is pinned. `asking` are users
    that wait for the helper's answer; until they have it, `owed` of those that have left are still held there. `aside`
    is the MAC to which its frames go while it is asked whether it is still there."""

    def __init__(self, mac: str) -> None:
        self.mac, self.users, self.pins, self.aside = mac, 0, set[Pin](), ""
        self.asking = self.owed = 0
        self.armed, self.lost = asyncio.Event(), False

    def told(self, mac: str | None) -> None:
        """What the kernel now has as the permanent MAC of the address; before it is ours, others are history."""
        if mac == self.mac:
            self.armed.set()
        elif self.armed.is_set() and mac != self.aside:
            self.lose()

    def lose(self) -> None:
        """Nothing may be sent to it any more."""
        self.lost = True
        for pin in self.pins:
            pin.lost = True


class Pins:
    """The door to the helper process. It belongs to the event loop in which it was made."""

    def __init__(self, helper: Helper, neighbours: Neighbours) -> None:
        self._helper, self._control, self._neighbours = helper, helper.control, neighbours
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._held: dict[_Key, _Held] = {}
        self._number, self._complained = 0, -_COMPLAIN_SECONDS
        self._unsaid: deque[tuple[dict[str, Any], socket.socket | None]] = deque()
        self.ended, self._stopped = asyncio.Event(), False
        self._control.setblocking(False)
        self._loop.add_reader(self._control.fileno(), self._read)

    def stop(self) -> None:
        """Pin nothing any more, and call every pin lost; the kernel's entries stay until `close`."""
        self._stopped = True
        for held in self._held.values():
            held.lose()

    def close(self) -> None:
        """End the helper, which lets go of everything; harmless when done before."""
        if self.ended.is_set():
            return
        self.ended.set()
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        self._helper.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_result(_NO)
        for key, held in self._held.items():
            self._neighbours.watch(*key, None)
            held.armed.set()
            held.lose()

    async def confirm(self, place: Place) -> bool:
        """Whether that MAC itself says now that it has the address; it has ANSWER_SECONDS for it."""
        return bool((await self._ask("confirm", place))["ok"])

    async def recheck(self, place: Place) -> bool:
        """The same for an address that is pinned: meanwhile nothing is sent there."""
        return bool((await self._ask("recheck", place))["ok"])

    def behind(self, ifindex: int, address: IPv4Address | str, mac: str | None) -> str | None:
        """The machine that an entry's `mac` stands for: itself, but for what an address has while it is rechecked."""
        held = self._held.get((ifindex, str(address)))
        return held.mac if held is not None and mac == held.aside else mac

    async def pin(self, place: Place) -> Pin | None:
        """Confirm, and keep the address at that MAC until the pin is released; None when it is not there."""
        if self._stopped:
            return None
        key = (place.ifindex, str(place.address))
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(place.mac)
            self._neighbours.watch(*key, lambda mac: self._told(key, mac))
        held.users += 1
        pinned = False
        try:
            if held.mac == place.mac and not held.lost and (pinned := await self._ask_for(key, held, place)):
                async with asyncio.timeout(_SEEN_SECONDS):
                    await held.armed.wait()
                if not held.lost:
                    pin = Pin(place, self, lambda pin: self._release(key, held, pin))
                    held.pins.add(pin)
                    return pin
        except TimeoutError:
            _log.error("%s: the kernel does not say that its neighbour entry is permanent", place.address)
        except BaseException:
            self._leave(key, held, pinned)
            raise
        self._leave(key, held, pinned)
        return None

    async def filter(self, sock: socket.socket, program: Sequence[filters.Instruction]) -> bool:
        """Whether the TCP socket `sock` now receives only what `program` takes.

        The helper does it: newer kernels (seen: 6.18) let only CAP_NET_ADMIN put a filter on a TCP socket.
        """
        answer = await self._order({"do": "filter", "program": filters.packed(program).hex()}, sock)
        return bool(answer["ok"])

    def moved(self, mac: str) -> None:
        """The machine, or somebody in its name, is now behind another port: what was pinned to it is lost."""
        for held in self._held.values():
            if held.mac == mac:
                held.lose()

    async def _ask_for(self, key: _Key, held: _Held, place: Place) -> bool:
        """Have the address pinned once more. Else the last of those that leave meanwhile would have
        its entry released before that, and lost for this one."""
        there = False
        held.asking += 1
        try:
            answer = await self._ask("pin", place)
            there, held.aside = bool(answer["ok"]), answer.get("held", held.aside)
        finally:
            held.asking -= 1
            self._settle(key, held, there=there)
        return there

    def _settle(self, key: _Key, held: _Held, *, there: bool) -> None:
        """Let go what those who have left held, when nobody is served by it any more."""
        if not held.asking or not there:
            for _ in range(held.owed):
                self._let_go(*key)
            held.owed = 0

    def _release(self, key: _Key, held: _Held, pin: Pin) -> None:
        held.pins.discard(pin)
        self._leave(key, held, pinned=True)

    def _leave(self, key: _Key, held: _Held, pinned: bool) -> None:
        held.users -= 1
        if not held.users and self._held.get(key) is held:
            del self._held[key]
            self._neighbours.watch(*key, None)
        if pinned:
            held.owed += 1
            self._settle(key, held, there=True)

    def _told(self, key: _Key, mac: str | None) -> None:
        """In the thread that reads the kernel's notifications."""

        def tell() -> None:
            if key in self._held:
                self._held[key].told(mac)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it every transfer
            self._loop.call_soon_threadsafe(tell)

    async def _ask(self, what: str, place: Place) -> dict[str, Any]:
        order = {"do": what, "interface": place.ifindex, "own": str(place.own)}
        return await self._order(order | {"address": str(place.address), "mac": place.mac})

    async def _order(self, order: dict[str, Any], sock: socket.socket | None = None) -> dict[str, Any]:
        """Have the helper do something; its answer, which says by "ok" whether it did."""
        self._number += 1
        number, future = self._number, self._loop.create_future()
        self._waiting[number] = future
        if not self._send(order | {"id": number}, sock):
            del self._waiting[number]
            return _NO
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if order["do"] == "pin":  # its answer comes all the same, and nobody is left to use it
                future.add_done_callback(lambda done: self._unwanted(order, done))
            raise

    def _unwanted(self, order: dict[str, Any], answer: asyncio.Future[dict[str, Any]]) -> None:
        if not answer.cancelled() and answer.result()["ok"]:
            self._let_go(order["interface"], order["address"])

    def _let_go(self, interface: int, address: str) -> None:
        self._send({"do": "release", "interface": interface, "address": address})

    def _send(self, order: dict[str, Any], sock: socket.socket | None = None) -> bool:
        """Give the helper an order, now or when it takes more of them; whether it will have it.

        A client that asks much at a time makes others wait and not fail. A release always waits: an address that is not
        let go is its machine's for as long as the service runs.
        """
        if self.ended.is_set():
            return False
        if len(self._unsaid) >= _MOST_UNSAID and order["do"] != "release":
            now = self._loop.time()
            if now - self._complained >= _COMPLAIN_SECONDS:
                self._complained = now
                _log.error("the process that pins neighbours does not keep up with what it is asked")
            return False
        self._unsaid.append((order, sock))
        if len(self._unsaid) == 1:
            self._say_on()
        return True

    def _say_on(self) -> None:
        """Give the helper what it has not taken yet, as far as it takes it."""
        descriptor = self._control.fileno()
        while self._unsaid:
            order, sock = self._unsaid[0]
            try:
                socket.send_fds(self._control, [json.dumps(order).encode()], [sock.fileno()] if sock else [])
            except BlockingIOError:
                self._loop.add_writer(descriptor, self._say_on)
                return
            except OSError:  # it has ended, or the socket is closed by now
                self._answer(order.get("id"), _NO)
            self._unsaid.popleft()
        self._loop.remove_writer(descriptor)

    def _answer(self, number: int | None, said: dict[str, Any]) -> None:
        future = self._waiting.pop(number, None) if number is not None else None
        if future is not None and not future.done():
            future.set_result(said)

    def _read(self) -> None:
        try:
            packet = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            _log.error("the process that pins neighbours has ended")
            self.close()
            return
        said = json.loads(packet)
        self._answer(said["id"], said)
