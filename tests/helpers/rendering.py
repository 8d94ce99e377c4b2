"""What the rendering tests share: a site, hosts, strategies for arbitrary valid ones, and golden files.

`PROVISION_GOLDEN=write pytest ...` writes the golden files anew; look at the difference before you commit it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from hypothesis import strategies as st

from provision.boot import OPERATOR, Medium, Payload, Requester, Role
from provision.host import Addressing, BondMode, Host, Interface, Route
from provision.model import KERNEL_ARGUMENT
from provision.policy import HostState, Release, decide
from provision.render.target import BootTarget
from provision.site import Network, Pool, Server, Servers, Service, Site
from tests.helpers.paths import GOLDEN
from tests.helpers.principals import ROOT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

SITE = Site(
    domain="example.org",
    realm="EXAMPLE.ORG",
    networks={
        "mgmt": Network(
            role=Role.MANAGEMENT,
            prefix=IPv4Network("10.20.0.0/16"),
            gateway=IPv4Address("10.20.0.1"),
            prefix6=IPv6Network("2001:db8:20::/64"),
            gateway6=IPv6Address("2001:db8:20::1"),
            dns=(IPv4Address("10.20.0.2"), IPv6Address("2001:db8:20::2")),
            ntp=(IPv4Address("10.20.0.3"), "ntp.example.org"),
            pool=Pool(first=IPv4Address("10.20.200.1"), last=IPv4Address("10.20.200.254")),
        ),
        "office": Network(
            role=Role.GENERAL,
            prefix=IPv4Network("192.0.2.0/24"),
            gateway=IPv4Address("192.0.2.1"),
            vlan=30,
            dns=(IPv4Address("192.0.2.2"),),
        ),
        "storage": Network(role=Role.GENERAL, prefix=IPv4Network("198.51.100.0/24"), vlan=40),
    },
    servers=Servers(
        management=Service(srv="_provision-mgmt._tcp"),
        freeipa=Service(
            hosts=(
                Server(name="ipa1.example.org", address=IPv4Address("10.20.0.5")),
                Server(name="ipa2.example.org"),
            )
        ),
    ),
)


def nic(number: int) -> str:
    """A MAC."""
    return f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"


def host(name: str = "node7", **interfaces: dict[str, Any] | Interface) -> Host:
    """A host with these interfaces; without any, one that gets its address by DHCP."""
    given = interfaces or {"mgmt": {"macs": (nic(7),), "network": "mgmt", "addressing": "dhcp"}}
    return Host.model_validate({"name": name, "interfaces": given})


HOSTS = {
    "dhcp": host(),
    "static": host(
        mgmt=Interface(
            macs=(nic(7),),
            network="mgmt",
            addressing=Addressing.STATIC,
            ipv4=IPv4Address("10.20.0.7"),
            ipv6=IPv6Address("2001:db8:20::7"),
            routes=(
                Route(to=IPv4Network("203.0.113.0/24"), via=IPv4Address("10.20.0.9")),
                Route(to=IPv6Network("2001:db8:99::/48"), via=IPv6Address("2001:db8:20::9")),
            ),
        )
    ),
    "hypervisor": host(
        mgmt=Interface(
            macs=(nic(1), nic(2)),
            bond=BondMode.LACP,
            network="mgmt",
            addressing=Addressing.STATIC,
            ipv4=IPv4Address("10.20.0.7"),
        ),
        office=Interface(
            macs=(nic(1), nic(2)),
            bond=BondMode.LACP,
            vlan=30,
            bridge="br-office",
            network="office",
            addressing=Addressing.DHCP,
        ),
        storage=Interface(
            macs=(nic(1), nic(2)),
            bond=BondMode.LACP,
            vlan=40,
            mtu=9000,
            network="storage",
            addressing=Addressing.STATIC,
            ipv4=IPv4Address("198.51.100.7"),
        ),
        guests=Interface(macs=(nic(3),), bridge="br-guests"),
    ),
    "tagged": host(
        mgmt=Interface(
            macs=(nic(4), nic(5)),
            bond=BondMode.ACTIVE_BACKUP,
            vlan=20,
            network="mgmt",
            addressing=Addressing.STATIC,
            ipv4=IPv4Address("10.20.0.7"),
        ),
        guests=Interface(macs=(nic(4), nic(5)), bond=BondMode.ACTIVE_BACKUP, vlan=50, bridge="br-guests"),
    ),
}


def released(subject: Host, site: Site = SITE, medium: Medium = Medium.ISO) -> tuple[HostState, Release]:
    """The host's state and a release of it to the operator, as policy gives it."""
    state = HostState(subject, subject.revision)
    answer = decide(state, site, medium, OPERATOR, Requester(principal=ROOT), Payload.CLEAR, NOW)
    assert isinstance(answer, Release)
    return state, answer


def golden(name: str, data: bytes) -> None:
    """Hold `data` to the golden file, or write it when PROVISION_GOLDEN=write."""
    path = GOLDEN / name
    if os.environ.get("PROVISION_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert path.exists(), f"{path} is missing; PROVISION_GOLDEN=write writes it"
    assert data.decode() == path.read_text()


# Arbitrary valid values, as the domain's types hold them.
_label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
names = _label
domains = st.lists(_label, min_size=1, max_size=3).map(".".join).filter(lambda d: not d.split(".")[-1].isdigit())
_argument = st.from_regex(KERNEL_ARGUMENT, fullmatch=True).filter(lambda a: len(a) < 40 and not a.endswith("\n"))
arguments = st.lists(_argument, max_size=8).map(tuple)
interface_names = st.from_regex(r"[a-z][a-z0-9-]{0,14}", fullmatch=True)

TARGET = BootTarget(
    title="node7.example.org",
    kernel="http://10.20.0.4/boot/kernel",
    initrds=("http://10.20.0.4/boot/initrd/0", "http://10.20.0.4/boot/initrd/1"),
    seed="http://10.20.0.4/boot/seed/0123abcd/seed.cpio",
    arguments=("console=ttyS0,115200", "root=/dev/ram0", "ro"),
)
MEDIUM_TARGET = BootTarget(
    "node7.example.org", "/boot/vmlinuz", ("/boot/initrd0.img",), "/boot/seed.img", TARGET.arguments
)
DENIAL = (
    "node7's network-boot image carries its credentials in clear; network 'office' is general. "
    "Boot it on 'mgmt', or write its ISO: 'provision iso node7 -o FILE'."
)

SMUGGLED = ["a\nb", "a b", 'a"', "a'", "a\\", "a#b", "é", "", "a\x00", "a\r", "$a", "${a}", "a;b", "a|b", "a&b", "{a}"]
"""Values that no type of the domain lets through; only `model_construct` or a bug brings them to a renderer."""


_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "\\'\"")
ODD_ARGUMENTS = (
    "quiet",
    'dyndbg="file a.c  +p "',
    '"a b=c d"',
    rf"x={_PLAIN}\\\'y\'\"z\"",
    rf'y="{_PLAIN} \\ it\'s "',
    "cpus=1-3;5",
)
"""Arguments with every character that one may have, which is every printable one: bare, and within quotes."""

NO_ARGUMENT = ["a\nb", "a b", 'a"', "a'", "a\\", "é", "", "a\x00", "a\r"]
"""Those of them that no kernel argument can be; the others stand between quotes, or mean nothing to the loader."""


def smuggled(value: str) -> list[BootTarget]:
    """Targets with the value in each place."""
    return [
        replace(TARGET, title=value),
        replace(TARGET, kernel=value),
        replace(TARGET, initrds=(value,)),
        replace(TARGET, seed=value),
        *([replace(TARGET, arguments=("quiet", value))] if value in NO_ARGUMENT else []),
    ]
