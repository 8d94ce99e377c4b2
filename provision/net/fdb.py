"""Which port of a bridge a MAC was learned on, as the kernel's forwarding table (FDB) has it; needs no privilege.

A bridge sends a host's frames to the port on which it last saw the host's MAC. So code that lets a secret go to a MAC
on a management bridge has to know that this port is one of those that the operator listed.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from pyroute2.netlink import NLM_F_DUMP, rtnl
from pyroute2.netlink.rtnl import ndmsg

from provision.net import attributes, netlink

# linux/neighbour.h
_NDA_LLADDR, _NDA_VLAN, _NDA_MASTER = 2, 5, 9
_NTF_SELF = 0x02
# struct ndmsg: family, padding, interface, state, flags, type
_HEADER = struct.Struct("=BxxxiHBB")


@dataclass(frozen=True)
class Entry:
    """One entry: `mac` in lower case with colons; `port` and `bridge` are interface indices, `bridge` 0 when not said.

    `fresh` says that frames for the MAC go to that port now: learned and not yet aged (an aged one is flooded to every
    port), or set by the operator. The bridge's own addresses are never fresh. `own` marks an entry of a device's own
    filter, which belongs to no bridge.
    """

    mac: str
    port: int
    bridge: int
    vlan: int
    fresh: bool
    own: bool


def parse(body: bytes) -> Entry | None:
    """An entry from the body of a neighbour message of family AF_BRIDGE; None when it has no Ethernet address."""
    family, port, state, flags, _ = _HEADER.unpack_from(body)
    found = dict(attributes.unpack(body[_HEADER.size :]))
    mac = found.get(_NDA_LLADDR, b"")
    if family != socket.AF_BRIDGE or len(mac) != 6:
        return None
    bridge = int.from_bytes(found.get(_NDA_MASTER, b""), "little")
    vlan = int.from_bytes(found.get(_NDA_VLAN, b""), "little")
    own = bool(flags & _NTF_SELF)
    fresh = state in (ndmsg.NUD_REACHABLE, ndmsg.NUD_NOARP) and not own and bridge not in (0, port)
    return Entry(mac.hex(":"), port, bridge, vlan, fresh, own)


def port_of(bridge: int, mac: str, vlan: int = 0) -> str | None:
    """The port (its name) on which `mac` was learned, of the bridge with that interface index; None when it was on
    none, when the entry has aged, or when the MAC is the bridge's or a port's own.

    `vlan` is the VLAN for a bridge that filters by VLAN (`rules.Stack.vlan`), 0 for any other: there a MAC has
    one entry. About 0.1 ms however large the table is, so an event loop may call it. Raises Unavailable when the
    kernel does not answer.
    """
    body = _HEADER.pack(socket.AF_BRIDGE, 0, 0, 0, 0)
    body += attributes.pack(_NDA_MASTER, struct.pack("=I", bridge)) + attributes.pack(
        _NDA_LLADDR, bytes.fromhex(mac.replace(":", ""))
    )
    if vlan:
        body += attributes.pack(_NDA_VLAN, struct.pack("=H", vlan))
    for answer in netlink.ask(rtnl.RTM_GETNEIGH, 0, body):
        entry = parse(answer)
        if entry is not None and entry.fresh and (entry.mac, entry.bridge) == (mac.lower(), bridge):
            return name_of(entry.port)
    return None


def stations(index: int) -> tuple[str, ...]:
    """The unicast MACs besides its own that an interface takes frames for: of macvlans over it, wherever they are.

    A macvlan that was moved to a container's network namespace is in no list of interfaces here; its MAC is in the
    filter of the NIC below it. Only that filter is read, which comes first, and never a bridge's learned entries.
    """
    found = []
    # With the header of RTM_GETLINK (struct ifinfomsg) the kernel takes the question for one device only.
    question = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0)
    for answer in netlink.ask(rtnl.RTM_GETNEIGH, NLM_F_DUMP, question):
        entry = parse(answer)
        if entry is None or entry.port != index or not entry.own:
            break
        if not int(entry.mac[:2], 16) & 1:
            found.append(entry.mac)
    return tuple(sorted(found))


def name_of(index: int) -> str | None:
    """The name of the interface with that index now."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None  # the port has just gone
