"""The site as a dynamic inventory for Ansible: what an inventory script prints for --list.

Ansible evaluates templates in variables; nothing here can hold one, since the domain's types have no braces. What a
host must keep to itself, and even the names of its credentials, is left out.
"""

from __future__ import annotations

import re
from typing import Any

from provision.host import Host, Interface
from provision.site import Address, Inventory, Site

_NOT_OF_A_GROUP = re.compile(r"[^A-Za-z0-9_]")


def inventory(whole: Inventory, label: tuple[str, str] | None = None) -> dict[str, Any]:
    """The hosts, those with that label and value if one is given, in groups by label (`key_value`) and network
    (`network_name`), with their variables in `_meta`, so that Ansible asks once for all of them."""
    hosts = [host for host in whole.hosts if label is None or host.labels.get(label[0]) == label[1]]
    groups: dict[str, list[str]] = {}
    for host in hosts:
        for group in _groups(host):
            groups.setdefault(group, []).append(host.name)
    return {
        "_meta": {"hostvars": {host.name: _variables(host, whole.site) for host in hosts}},
        "all": {"children": ["ungrouped", *sorted(groups)], "hosts": [host.name for host in hosts]},
        **{name: {"hosts": members} for name, members in sorted(groups.items())},
    }


def _groups(host: Host) -> list[str]:
    """The groups of a host, each once: labels may differ in characters that the name of a group cannot have."""
    networks = (interface.network for interface in host.interfaces.values())
    names = [f"{key}_{value}" for key, value in host.labels.items()]
    names += [f"network_{network}" for network in networks if network is not None]
    return list(dict.fromkeys(_group(name) for name in names))


def _group(name: str) -> str:
    """A name that Ansible takes for a group: an identifier of Python."""
    name = _NOT_OF_A_GROUP.sub("_", name)
    return f"_{name}" if name[0].isdigit() else name


def _variables(host: Host, site: Site) -> dict[str, Any]:
    fqdn = f"{host.name}.{site.domain}"
    return {
        "ansible_host": str(_address(host.primary) or fqdn),
        "provision_fqdn": fqdn,
        "provision_labels": dict(host.labels),
        "provision_install": host.install.value,
        "provision_storage": host.storage.value,
        "provision_netboot": host.netboot.value,
        "provision_base": host.base or site.base,
        "provision_interfaces": {name: _interface(one, site) for name, one in host.interfaces.items()},
    }


def _address(interface: Interface) -> Address | None:
    """An interface's address, as far as the inventory knows it."""
    return interface.ipv4 or interface.reservation or interface.ipv6


def _interface(interface: Interface, site: Site) -> dict[str, Any]:
    """What is known of one interface; what it has not is left out."""
    network = site.networks.get(interface.network) if interface.network is not None else None
    facts: dict[str, object] = {
        "network": interface.network,
        "role": network and network.role.value,
        "addressing": interface.addressing and interface.addressing.value,
        "ipv4": interface.ipv4 or interface.reservation,
        "ipv6": interface.ipv6,
        "prefix": network and network.prefix,
        "prefix6": network and network.prefix6,
        "gateway": network and network.gateway,
        "gateway6": network and network.gateway6,
        "vlan": interface.vlan,
        "bond": interface.bond and interface.bond.value,
        "bridge": interface.bridge,
        "mtu": interface.mtu,
    }
    known = {
        name: value if isinstance(value, int) else str(value) for name, value in facts.items() if value is not None
    }
    return {"macs": [str(mac) for mac in interface.macs], **known}
