"""Where this server is reached, network by network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from provision.boot import Role
from provision.errors import Invalid, Unavailable
from provision.host import Host
from provision.link import https_url
from provision.server_names import is_address
from provision.settings import Api, Settings
from provision.site import Site

if TYPE_CHECKING:
    from provision.seed import BootServer


@dataclass(frozen=True)
class Endpoint:
    """Where this server is on a network: interface, address and HTTP port."""

    interface: str
    address: IPv4Address
    port: int

    @cached_property
    def url(self) -> str:
        """The URL of the boot application there, without a path."""
        return f"http://{self.address}" if self.port == 80 else f"http://{self.address}:{self.port}"


class Endpoints:
    """This server's addresses on the networks of its settings; looked up once, until they are forgotten."""

    def __init__(self, settings: Settings, site: Callable[[], Site]) -> None:
        self._settings, self._site = settings, site
        # Where each network is served, or why it cannot be now; None for one of which the settings say nothing.
        self._endpoints: dict[str, Endpoint | Unavailable | None] = {}
        self._boot_servers: dict[frozenset[str], tuple[Site, tuple[BootServer, ...]]] = {}

    def of(self, network: str) -> Endpoint | None:
        """The address and HTTP port of this server on `network`; None when it does not serve it, or cannot now."""
        found = self._place(network)
        return found if isinstance(found, Endpoint) else None

    def unheard(self, host: Host) -> tuple[str, ...]:
        """The host's networks when the settings name none of them, so that nothing answers its network boot."""
        own = tuple(dict.fromkeys(i.network for i in host.interfaces.values() if i.network))
        return () if {listen.network for listen in self._settings.listen}.intersection(own) else own

    def has_management(self, host: Host) -> bool:
        """Whether a management network is one of the host's."""
        networks = self._site().networks
        return any(networks[i.network].role is Role.MANAGEMENT for i in host.interfaces.values() if i.network)

    def of_own(self, host: Host) -> Endpoint | None:
        """Where a host finds this server that was not booted from a network: on the first of its management networks
        that is served, or of its general ones when it has no other."""
        role = Role.MANAGEMENT if self.has_management(host) else Role.GENERAL
        own = [i.network for i in host.interfaces.values() if i.network]
        networks = self._site().networks
        return next(filter(None, (self.of(name) for name in own if networks[name].role is role)), None)

    def for_links(self) -> list[str]:
        """The URLs, without a path, at which media are given to links: over TLS first."""
        networks, api = self._site().networks, self._settings.api
        return (_over_tls(api) if api is not None else []) + [
            there.url
            for listen in self._settings.listen
            if listen.links and listen.network in networks and networks[listen.network].role is Role.MANAGEMENT
            if (there := self.of(listen.network)) is not None
        ]

    def required(self, network: str) -> Endpoint | None:
        """The same for what must not be left out by mistake.

        Raises Unavailable when the interface is to blame, and Invalid when [[listen]] names a network that is not.
        """
        there = self._site().networks
        if strange := [listen.network for listen in self._settings.listen if listen.network not in there]:
            fact = f"[[listen]] names it, and the inventory does not (there: {', '.join(there)})"
            raise Invalid(f"network '{strange[0]}'", fact, "correct provision.toml, and restart a running service")
        found = self._place(network)
        if isinstance(found, Unavailable):
            raise found
        return found

    def _place(self, network: str) -> Endpoint | Unavailable | None:
        if network in self._endpoints:
            return self._endpoints[network]
        # Imported here, as below: the command line does without in most runs.
        from provision.net.interfaces import Binding, address_of, look

        listen = next((one for one in self._settings.listen if one.network == network), None)
        found: Endpoint | Unavailable | None = None
        if listen is not None and network in self._site().networks:
            binding = Binding(network, self._site().networks[network].role, listen.interface, listen.address)
            try:
                found = Endpoint(listen.interface, listen.address or address_of(look(), binding), listen.http_port)
            except Unavailable as error:
                found = error
        self._endpoints[network] = found
        return found

    def forget(self) -> None:
        """Look again: interfaces or networks have changed."""
        self._endpoints.clear()
        self._boot_servers.clear()

    def boot_servers(self, host: Host) -> tuple[BootServer, ...]:
        """The boot listeners that give secrets away, on the networks of this host: what it is to keep others off."""
        own = frozenset([i.network for i in host.interfaces.values() if i.network])
        site, known = self._site(), self._boot_servers.get(own)
        if known is not None and known[0] is site:
            return known[1]
        from provision.seed import BootServer

        networks = site.networks
        found = tuple(
            BootServer(there.address, there.port, listen.tftp_port, listen.tftp_ports)
            for listen in self._settings.listen
            if listen.network in own and networks[listen.network].role is Role.MANAGEMENT
            if (there := self.of(listen.network)) is not None
        )
        self._boot_servers[own] = site, found
        return found


def _over_tls(api: Api) -> list[str]:
    """The URLs of the API: that of its proxy first, when the settings name it."""
    proxy = api.proxy.public_url if api.proxy is not None else None
    return ([proxy] if proxy is not None else []) + _of_its_own(api)


def _of_its_own(api: Api) -> list[str]:
    """The URL of the API itself; of one that hears on every address, by its own names: an address before a host name,
    since not every BMC asks a name server."""
    if not api.address.is_unspecified:
        return [https_url(str(api.address), api.port)]
    names = sorted(api.names, key=lambda name: not is_address(name))
    return [https_url(name, api.port) for name in names[:1]]
