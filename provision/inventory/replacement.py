"""A host one of whose NICs was exchanged: the host as it is then, and the piece of YAML that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from provision.errors import Conflict, Invalid, NotFound
from provision.host import Host
from provision.model import nic_address


def nic(host: Host, named: str) -> str:
    """The MAC that `named` means: the host's own NIC with that MAC, or that of the interface with that name.

    Raises NotFound when there is none, and Invalid when the interface has several.
    """
    interface = host.interfaces.get(named)
    if interface is not None:
        if len(interface.macs) == 1:
            return interface.macs[0]
        fact = f"has {len(interface.macs)} NICs"
        raise Invalid(f"{host.name}/{named}", fact, f"name the one to replace: {', '.join(interface.macs)}")
    there = {mac: name for name, one in host.interfaces.items() for mac in one.macs}
    try:
        mac = nic_address(named)
    except ValueError:
        mac = ""
    if mac not in there:
        known = ", ".join(f"{name} {mac}" for mac, name in there.items())
        fact = f"no interface of it has this name, and no NIC this MAC (there: {known})"
        raise NotFound(f"{host.name}/{named}", fact, f"see 'provision host show {host.name}'")
    return mac


def replaced(host: Host, old: str, new: str) -> Host:
    """The host with the NIC `new` wherever it had `old` (interfaces with VLANs share theirs). Raises Conflict when it
    has that NIC already, and Invalid when an interface cannot have such a one."""
    if any(new in interface.macs for interface in host.interfaces.values()):
        raise Conflict(host.name, f"has the NIC {new} already", f"see 'provision host show {host.name}'")
    document = host.model_dump(mode="json")
    for interface in document["interfaces"].values():
        interface["macs"] = [new if mac == old else mac for mac in interface["macs"]]
    try:
        return Host.model_validate_json(json.dumps(document))
    except ValidationError:
        raise Invalid(host.name, f"no interface of it can have the NIC {new}", "name one of the same kind") from None


def fragment(name: str, interfaces: Mapping[str, Sequence[str]]) -> str:
    """What the host's files are to say of these interfaces' NICs, as YAML. Nothing in it is special there: all of it
    was parsed."""
    lines = ["hosts:", f"  {name}:", "    interfaces:"]
    for interface, macs in interfaces.items():
        quoted = [f'"{mac}"' for mac in macs]
        value = f"mac: {quoted[0]}" if len(quoted) == 1 else f"macs: [{', '.join(quoted)}]"
        lines.append(f"      {interface}: {{{value}}}")
    return "\n".join(lines) + "\n"
