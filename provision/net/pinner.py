"""A small process beside the service, with the one privilege that the service itself does not have: CAP_NET_ADMIN.

It asks a recorded MAC by ARP whether it is there, looks at who sent the answer's frame, and then makes the neighbour
entry permanent until the service lets go of it. It does nothing else to the machine's network. It ends with the
service, and leaves no entry behind.

On standard input is a socket pair (SOCK_SEQPACKET). Each packet is a JSON object: {"id", "do": "confirm" | "pin",
"interface", "own", "address", "mac"} is answered by {"id", "ok": true | false}, and so is {"id", "do": "filter",
"program": HEX}, which comes with a socket (SCM_RIGHTS); {"do": "release", "interface", "address"} is answered by
nothing. {"id", "do": "recheck", ...} is "confirm" for an address that is pinned, which is *held* from the question to
the answer: its frames go to the server's own MAC, where every switch drops them, and not to a machine that may be gone,
whose frames a switch floods. An answer to "pin" has "held", that MAC. The first packet from here says {"ready": true},
or {"error": TEXT} before the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import select
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from provision.errors import Unavailable
from provision.net import arp, capabilities, filters
from provision.net.entries import Entries, Entry

ATTEMPTS = (0.0, 0.05, 0.2, 0.5, 1.0, 1.5)
"""When a MAC is asked, in seconds from the beginning; a firmware that is busy answers the second or third time."""

ANSWER_SECONDS = 2.0
"""How long it has to answer."""

_ANEW_SECONDS = 0.5
"""A question that is older than this is put anew for one who joins it: what nobody answered so far says nothing of now,
when the machine may just have come up."""

_SIOCGIFHWADDR = 0x8927  # netdevice(7)
_HOST = 0  # PACKET_HOST, packet(7)
_INT = struct.Struct("i")
_ONE_DESCRIPTOR = socket.CMSG_LEN(_INT.size)
_BURST = 64
_ORDER_BYTES = 1 << 17  # a filter has 4,096 instructions of 8 bytes at most, in hexadecimal


@dataclass
class _Probe:
    """One question under way: when it began, how often it was asked since, and who waits, the longest waiting first
    ((id, whether to pin, until when))."""

    entry: Entry
    own: bytes
    name: str
    since: float
    asked: int = 0
    waiting: list[tuple[int, bool, float]] = field(default_factory=list)

    @property
    def next(self) -> float:
        """When something is to be done about it: ask again, or tell who has waited long enough."""
        until = self.waiting[0][2]
        return min(until, self.since + ATTEMPTS[self.asked]) if self.asked < len(ATTEMPTS) else until


class Pinner:
    """The process's one object: what is asked, and what is pinned how many times."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        # On every interface, also on those that come later.
        kind, protocol = socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(arp.ETHERTYPE)
        self._packets = socket.socket(socket.AF_PACKET, kind, protocol)
        filters.attach(self._packets, arp.replies_of(()))
        self._entries = Entries()
        self._entries.sweep()
        self._probes: dict[Entry, _Probe] = {}
        self._filtered: frozenset[bytes] = frozenset()
        self._pinned: Counter[Entry] = Counter()
        self._held: set[Entry] = set()

    def run(self) -> None:
        """Serve until the service is gone."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._packets, select.POLLIN)
        self._say({"ready": True})
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll(self._patience())}
                if self._packets.fileno() in ready:
                    self._hear()
                if self._control.fileno() in ready and not self._obey():
                    return
                self._filter()
                self._go_on()
        finally:
            for entry in self._pinned:
                self._entries.release(entry)

    def _patience(self) -> float | None:
        """Milliseconds until a probe has to be looked at."""
        if not self._probes:
            return None
        return max(0.0, min(probe.next for probe in self._probes.values()) - time.monotonic()) * 1000 + 0.5

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the service is gone, as the next order will say
            self._control.send(json.dumps(message).encode())

    def _obey(self) -> bool:
        """Take the orders that have come; False when there will be no more."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_BURST):
                try:
                    # socket.recv_fds takes no flags (Python 3.11).
                    packet, said, _, _ = self._control.recvmsg(_ORDER_BYTES, _ONE_DESCRIPTOR, socket.MSG_DONTWAIT)
                except ConnectionError:  # the service has ended with an answer unread
                    return False
                if not packet:
                    return False
                self._do(json.loads(packet), [_INT.unpack(data)[0] for _, _, data in said])
        return True

    def _do(self, order: dict[str, Any], descriptors: Sequence[int]) -> None:
        if order["do"] == "filter":
            self._say({"id": order["id"], "ok": _filtered(descriptors[0], bytes.fromhex(order["program"]))})
        elif order["do"] == "release":
            self._release(order["interface"], socket.inet_aton(order["address"]))
        else:
            self._ask(order, Entry(order["interface"], socket.inet_aton(order["address"]), arp.mac_bytes(order["mac"])))

    def _ask(self, order: dict[str, Any], entry: Entry) -> None:
        probe, now = self._probes.get(entry), time.monotonic()
        if probe is None:
            try:
                name = socket.if_indextoname(entry.ifindex)
            except OSError:
                self._say({"id": order["id"], "ok": False})
                return
            probe = self._probes[entry] = _Probe(entry, socket.inet_aton(order["own"]), name, now)
        elif now - probe.since >= _ANEW_SECONDS:
            probe.since, probe.asked = now, 0
        probe.waiting.append((order["id"], order["do"] == "pin", now + ANSWER_SECONDS))
        if order["do"] == "recheck" and not self._hold(probe):
            # What cannot be kept from it meanwhile, it does not get at all.
            self._say({"id": probe.waiting.pop()[0], "ok": False})
            if not probe.waiting:
                del self._probes[probe.entry]

    def _hold(self, probe: _Probe) -> bool:
        """Whether nothing more goes to the machine until it has answered."""
        if self._pinned[probe.entry] and probe.entry not in self._held:
            try:
                self._entries.pin(replace(probe.entry, mac=self._own_mac(probe.name)))
            except OSError:
                return False
            self._held.add(probe.entry)
        return True

    def _resume(self, entry: Entry) -> bool:
        """It has answered; whether frames go to it again."""
        if entry in self._held:
            try:
                self._entries.pin(entry)
            except OSError:
                return False
            self._held.discard(entry)
        return True

    def _release(self, ifindex: int, address: bytes) -> None:
        for entry in [e for e in self._pinned if (e.ifindex, e.address) == (ifindex, address)]:
            self._pinned[entry] -= 1
            if not self._pinned[entry]:
                del self._pinned[entry]
                self._held.discard(entry)
                self._entries.release(entry)

    def _filter(self) -> None:
        """Hear who is asked now, and nobody else. It takes the longer the more are asked, so it is done once for
        all that have just come or gone."""
        wanted = frozenset(entry.mac for entry in self._probes)
        if wanted != self._filtered:
            filters.attach(self._packets, arp.replies_of(wanted))
            self._filtered = wanted

    def _hear(self) -> None:
        for _ in range(_BURST):
            try:
                frame, (name, _protocol, kind, _hardware, _source) = self._packets.recvfrom(2048, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                continue  # an interface went down
            reply = arp.parse(frame) if kind == _HOST else None
            if reply is None or reply.source != reply.sender_mac:
                continue
            for probe in [
                p for p in self._probes.values() if p.entry.mac == reply.source and p.name == name and p.asked
            ]:
                if (probe.entry.address, probe.own) == (reply.sender, reply.target):
                    del self._probes[probe.entry]
                    there = self._resume(probe.entry)
                    for number, pin, _until in probe.waiting:
                        self._say(self._answer(number, probe, pin=pin, there=there))

    def _answer(self, number: int, probe: _Probe, *, pin: bool, there: bool) -> dict[str, Any]:
        if not pin:
            return {"id": number, "ok": there}
        try:
            aside = self._own_mac(probe.name).hex(":")
        except OSError:
            return {"id": number, "ok": False}
        return {"id": number, "ok": there and self._pin(probe.entry), "held": aside}

    def _own_mac(self, name: str) -> bytes:
        """The interface's MAC. Raises OSError when it is gone."""
        answer = fcntl.ioctl(self._packets.fileno(), _SIOCGIFHWADDR, struct.pack("16s24x", name.encode()))
        return bytes(answer[18:24])

    def _pin(self, entry: Entry) -> bool:
        """Whether the entry is permanent now. Of two MACs for one address the first keeps it."""
        if any((e.ifindex, e.address) == (entry.ifindex, entry.address) and e != entry for e in self._pinned):
            return False
        if not self._pinned[entry]:
            try:
                self._entries.pin(entry)
            except OSError:
                del self._pinned[entry]
                return False
        self._pinned[entry] += 1
        return True

    def _go_on(self) -> None:
        """Ask again where it is time to, and give up where it was in vain."""
        now = time.monotonic()
        for probe in [p for p in self._probes.values() if p.next <= now]:
            while probe.waiting and probe.waiting[0][2] <= now:
                self._say({"id": probe.waiting.pop(0)[0], "ok": False})
            if not probe.waiting:
                del self._probes[probe.entry]
                continue
            if probe.asked == len(ATTEMPTS) or now < probe.since + ATTEMPTS[probe.asked]:
                continue
            probe.asked += 1
            try:
                frame = arp.request(self._own_mac(probe.name), probe.own, probe.entry.mac, probe.entry.address)
                self._packets.sendto(frame, (probe.name, arp.ETHERTYPE))
            except OSError:
                continue  # the interface is down, or gone: nobody will answer


def _filtered(descriptor: int, program: bytes) -> bool:
    """Whether the socket now hears only what the filter takes."""
    with socket.socket(fileno=descriptor) as sock:
        try:
            filters.attach_packed(sock, program)
        except OSError:
            return False
    return True


def main() -> None:
    """The process: what needs CAP_NET_RAW is opened first, and then CAP_NET_ADMIN is all that is left."""
    # What ends the service is often sent to all of its processes; this one goes on for as long as the service does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=0)
    try:
        if capabilities.NET_ADMIN not in capabilities.held():
            raise PermissionError("it has no CAP_NET_ADMIN")
        pinner = Pinner(control)
        capabilities.keep({capabilities.NET_ADMIN})
        capabilities.forbid_more()
    except (OSError, Unavailable) as error:
        control.send(json.dumps({"error": getattr(error, "strerror", None) or str(error)}).encode())
        return
    pinner.run()


if __name__ == "__main__":
    main()
