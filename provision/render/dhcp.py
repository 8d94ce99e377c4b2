"""DHCP: one model of what the management networks' DHCP server says, and its dialects (dnsmasq).

Only management networks are served: on a general network the site's own DHCP server decides where to boot.
Options: RFC 2132, RFC 4578 (client architecture), RFC 5071 (PXELINUX), UEFI 2.10 section 24.7 (HTTP Boot).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from provision import boot_paths
from provision.boot import Role
from provision.boot_paths import BootIso, UnifiedKernel
from provision.errors import Invalid, Unavailable
from provision.host import Addressing, Chain, Host, Interface
from provision.proc import run
from provision.render.environment import render
from provision.site import Inventory, Network, Pool

LEASE = "12h"
LEASE_FILE = Path("/var/lib/provision-dhcp/leases")
"""Where the leases are kept: the StateDirectory of the systemd unit."""

MAX_URL = 127
"""Bytes of a boot URL: the BOOTP `file` field has 128 with its NUL (RFC 2131 section 2)."""


@dataclass(frozen=True)
class BootServer:
    """A network's place on this server: its `interface`, the server's `address` there, and the HTTP port."""

    network: str
    interface: str
    address: IPv4Address
    http_port: int = 80


class Reservation(NamedTuple):
    """The address of one host: for a bond, whichever NIC asks. `address` None: known, but from the pool. A `unified`
    host's firmware starts the site's signed image."""

    host: str
    macs: tuple[str, ...]
    address: IPv4Address | None
    unified: bool = False


@dataclass(frozen=True)
class DhcpNetwork:
    """What the server says on one management network. Without a `pool`, only hosts of the inventory get an answer."""

    name: str
    interface: str
    address: IPv4Address
    base_url: str
    prefix: IPv4Network
    pool: Pool | None
    router: IPv4Address | None
    dns: tuple[IPv4Address, ...]
    ntp: tuple[IPv4Address, ...]
    reservations: tuple[Reservation, ...]

    @property
    def tag(self) -> str:
        """The network's name, out of the way of every other tag and keyword."""
        return f"net-{self.name}"

    @property
    def iso_url(self) -> str:
        """What UEFI HTTP Boot loads."""
        return self.base_url + boot_paths.http(BootIso())

    @property
    def unified_url(self) -> str:
        """The same for hosts that start the site's signed image."""
        return self.base_url + boot_paths.http(UnifiedKernel())

    @property
    def pxe_url(self) -> str:
        """Where PXELINUX finds its files."""
        return self.base_url + boot_paths.PXE


@dataclass(frozen=True)
class DhcpModel:
    """Everything a DHCP server needs to know, in no server's language."""

    domain: str
    networks: tuple[DhcpNetwork, ...]

    @property
    def leases(self) -> int:
        """How many leases there can be at most (dnsmasq gives up at 1000 unless told)."""
        pools = [int(n.pool.last) - int(n.pool.first) + 1 for n in self.networks if n.pool]
        return sum(pools) + sum(len(n.reservations) for n in self.networks) + 1

    @property
    def has_unified(self) -> bool:
        """Whether any host starts the site's signed image."""
        return any(reservation.unified for network in self.networks for reservation in network.reservations)

    @property
    def reservations(self) -> tuple[Reservation, ...]:
        """Every reservation once, those without an address first: NICs have one for each network that they are on.

        Of the lines that fit, dnsmasq 2.90 takes the last one, and one without an address fits on every network.
        """
        # By MACs and address: without the address, NICs on two networks would keep the last one's only.
        once = {(frozenset(r.macs), str(r.address)): r for network in self.networks for r in network.reservations}
        found = once.values()
        return (*(one for one in found if one.address is None), *(one for one in found if one.address is not None))


def model(inventory: Inventory, bindings: Sequence[BootServer]) -> DhcpModel:
    """What to say on each bound management network; bindings to general networks are left out.

    Raises Invalid for a binding to an unknown network, an address outside of it, a numeric domain, and a boot URL
    that is too long.
    """
    domain = inventory.site.domain
    if domain.rpartition(".")[2].isdigit():
        # "10" in the domain "0.0.5" would be read as an address (RFC 3696 section 2: such domains do not exist).
        raise Invalid(domain, "the domain ends in a number", "correct the site's domain")
    networks = []
    for binding in sorted(bindings, key=lambda b: (b.network, b.interface)):
        network = inventory.site.networks.get(binding.network)
        if network is None:
            raise Invalid(binding.network, "a listener names this network, which the inventory does not have", "add it")
        if network.role is Role.MANAGEMENT:
            networks.append(_network(binding, network, inventory.hosts))
    return DhcpModel(domain, tuple(networks))


def _network(binding: BootServer, network: Network, hosts: Iterable[Host]) -> DhcpNetwork:
    if network.prefix is None:
        fact = "has no IPv4 prefix, and boot listeners are IPv4"
        raise Invalid(binding.network, fact, "leave its [[listen]] out: hosts there boot from an ISO or a disk")
    if binding.address not in network.prefix:
        raise Invalid(
            binding.network,
            f"this server's address {binding.address} on {binding.interface} is outside of {network.prefix}",
            "correct the listener's interface or the network's prefix",
        )
    port = "" if binding.http_port == 80 else f":{binding.http_port}"
    found = DhcpNetwork(
        name=binding.network,
        interface=binding.interface,
        address=binding.address,
        base_url=f"http://{binding.address}{port}",
        prefix=network.prefix,
        pool=network.pool,
        router=network.gateway,
        dns=tuple(a for a in network.dns if isinstance(a, IPv4Address)),
        ntp=tuple(a for a in network.ntp if isinstance(a, IPv4Address)),
        reservations=tuple(_reservations(binding.network, hosts)),
    )
    if len(found.iso_url) > MAX_URL:
        raise Invalid(binding.network, f"the boot URL {found.iso_url} has more than {MAX_URL} bytes", "shorten it")
    return found


def _reservations(network: str, hosts: Iterable[Host]) -> Iterable[Reservation]:
    for host in hosts:
        for interface in host.interfaces.values():
            if interface.network == network:
                yield Reservation(host.name, interface.macs, _address(interface), host.chain is Chain.UKI)


def _address(interface: Interface) -> IPv4Address | None:
    """A static host's firmware asks by DHCP too; it gets the address that the host will have."""
    return interface.ipv4 if interface.addressing is Addressing.STATIC else interface.reservation


def dnsmasq(model: DhcpModel, lease_file: Path = LEASE_FILE) -> bytes:
    """The model as a dnsmasq 2.90 configuration; raises Invalid for a value that the guard refuses."""
    return render("dhcp/dnsmasq.conf.j2", model=model, lease=LEASE, lease_file=str(lease_file))


def check(text: bytes) -> None:
    """Have dnsmasq itself read the configuration; raises Invalid with its message, Unavailable without dnsmasq.

    It is confined: directives can run programs (`conf-script`) while the file is read.
    """
    argv = ["dnsmasq", "--test", "--conf-file=-"]
    done = run(argv, package="dnsmasq-base", stdin=text, ok=range(256), confined=True)
    if done.returncode == 0:
        return
    message = done.stderr.decode(errors="replace").strip().removeprefix("dnsmasq: ")
    if done.returncode != 1:  # dnsmasq(8), EXIT CODES: 1 is a problem with the configuration
        raise Unavailable("dnsmasq", f"could not check the configuration: {message}", "look at the machine")
    raise Invalid("dnsmasq", message, "correct the inventory and apply it again")


def unit(config: Path) -> bytes:
    """A hardened systemd unit that runs dnsmasq with the configuration at `config`; raises Invalid for an odd path."""
    path = str(config.absolute())
    try:
        return render("dhcp/provision-dhcp.service.j2", config=path)
    except Invalid:
        fact = "this path has white space or another character that means something in a unit"
        raise Invalid(path, fact, "put the configuration at a plain path") from None
