"""The operator's application over TLS: opened as soon as it can be, with certificates that follow their files.

Boots do not depend on it. A certificate that is not right, or an address that is not there, is told of in the log and
in the status, and tried again; it stops nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv6Address

from provision.clock import Clock
from provision.errors import ProvisionError
from provision.net.sockets import bind_any
from provision.service.listeners import Listening
from provision.settings import Api, Proxy, Settings
from provision.tls.files import finish
from provision.tls.kept import Certificates
from provision.web.entrance import by_network
from provision.web.forwarded import Proxied
from provision.web.limits import Limits
from provision.web.problems import origin_of_error
from provision.web.served_names import ServedNames
from provision.web.servers import Servers

NAME, PROXY_NAME = "[api]", "[api.proxy]"
"""What stands for the API beside the networks, none of which can have that name; and for it behind a proxy."""

App = Callable[..., Awaitable[None]]
"""An ASGI application."""

_LOOK_SECONDS = 2.0
_HEADER_WITH_TICKET = 80 * 1024
"""Bytes of a request's header where it may have a Kerberos ticket: Active Directory's have up to 64,000 in base64."""
_log = logging.getLogger("provision")


class ApiServer:
    """Serves one application by the settings `[api]`, or to a `proxy` by those of `[api.proxy]`: `app`, with what looks
    at each request before it."""

    def __init__(
        self, app: App, api: Api, settings: Settings, servers: Servers, clock: Clock, proxy: Proxy | None = None
    ) -> None:
        """`app` is the ASGI application, which authenticates every request."""
        self._api, self._proxy, self._settings, self._servers = api, proxy, settings, servers
        state = settings.state.absolute()
        finish(state)  # without it, a renewal that was killed leaves no pair to begin with
        self._certificates = Certificates(api.pairs(state), clock, state / proxy.certificate if proxy else None)
        self._port = proxy.port if proxy else api.port
        public = [proxy.public_name] if proxy is not None and proxy.public_name is not None else []
        self.app = ServedNames(app if proxy is None else self._proxied(app, proxy), (*api.names, *public))
        self._served, self._trouble = False, ""
        self._warned: set[str] = set()

    def _proxied(self, app: App, proxy: Proxy) -> App:
        addresses = [str(address) for address in proxy.addresses]
        return Proxied(app, addresses, proxy.header, lambda: self._certificates.client)

    def warnings(self) -> list[ProvisionError]:
        """What an operator should see to."""
        return self._certificates.warnings()

    def states(self) -> Mapping[str, Listening]:
        """Whether it is served."""
        text = f"served at {self._where()}" if self._served else self._trouble or "begins"
        return {NAME if self._proxy is None else PROXY_NAME: Listening(text, self._served, self._certificates.expires)}

    async def follow(self) -> None:
        """Open it, and follow the files from then on. Ends only when it is cancelled."""
        while True:
            try:
                await self._open()
                self._tell_warnings()
                await asyncio.to_thread(self._certificates.look)
            except ProvisionError as error:
                self._tell(str(error))
            except Exception as error:  # its message could hold anything
                self._tell(f"internal error ({type(error).__name__} at {origin_of_error(error)})")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _open(self) -> None:
        if self._served:
            return
        if self._certificates.context is None:
            self._trouble = str(self._certificates.problem)
            return  # the certificates have told of it
        sock, api = bind_any(self._api.address, self._port), self._api
        limits = Limits(
            header=_HEADER_WITH_TICKET if api.kerberos is not None else Limits.header,
            header_seconds=self._settings.header_timeout,
            body=None,
            connections=api.max_connections,
            per_peer=api.max_connections_per_peer if self._proxy is None else api.max_connections,
            authenticated=True,
        )
        await self._servers.add(self.app, sock, limits, by_network, lambda: self._certificates.context)
        self._served = True
        _log.info("serving the operators' API at %s%s", self._where(), " to its proxy" if self._proxy else "")

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.error("the operators' API: %s", trouble)
        self._trouble = trouble

    def _tell_warnings(self) -> None:
        told = {str(warning) for warning in self.warnings() if warning is not self._certificates.problem}
        for text in sorted(told - self._warned):
            _log.warning("%s", text)
        self._warned = told

    def _where(self) -> str:
        address = self._api.address
        return f"https://{f'[{address}]' if isinstance(address, IPv6Address) else address}:{self._port}"
