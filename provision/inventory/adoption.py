"""A machine that asked and is in no inventory, as the host that it would be, and as the piece of YAML that says so."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from provision.errors import Invalid
from provision.host import Host
from provision.model import InterfaceName

_INTERFACE: TypeAdapter[str] = TypeAdapter(InterfaceName)


def suggested(mac: str) -> str:
    """A name that no other machine is given: "host-" and the MAC."""
    return f"host-{mac.replace(':', '')}"


def host(name: str, mac: str, network: str) -> Host:
    """The host `name`, which gets the address of its one NIC on `network` by DHCP; raises Invalid."""
    interface = {"macs": [mac], "network": network, "addressing": "dhcp"}
    try:
        return Host.model_validate({"name": name, "interfaces": {_interface(network): interface}})
    except ValidationError:
        fact = "its name, its MAC or its network is not valid"
        raise Invalid("machine", fact, "a name has at most 63 lower-case letters, digits and '-'") from None


def fragment(adopted: Host) -> str:
    """What `host` made, as YAML. Nothing in it is special there: all of it was parsed."""
    (interface,) = adopted.interfaces
    nic = adopted.primary
    return (
        "hosts:\n"
        f"  {adopted.name}:\n"
        "    interfaces:\n"
        f'      {interface}: {{mac: "{nic.macs[0]}", network: "{nic.network}", addressing: dhcp}}\n'
    )


def _interface(network: str) -> str:
    """Interfaces have their networks' names, by custom, where these are names of interfaces."""
    try:
        return _INTERFACE.validate_python(network)
    except ValidationError:
        return "lan"
