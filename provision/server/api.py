"""The operator's application over TLS: opened as soon as it can be, with certificates that follow their files.

Boots do not depend on it. A certificate that is not right, or an address that is not there, is told of in the log and
in the status, and tried again; it stops nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from ipaddress import IPv6Address

from provision.clock import Clock
from provision.errors import ProvisionError
from provision.net.sockets import bind_any
from provision.service.listeners import Listening
from provision.settings import Api, Settings
from provision.tls.kept import Certificates
from provision.web.entrance import by_network
from provision.web.limits import Limits
from provision.web.problems import origin_of_error
from provision.web.served_names import ServedNames
from provision.web.servers import Servers

NAME = "[api]"
"""What stands for the API beside the networks, none of which can have that name."""

_LOOK_SECONDS = 2.0
_HEADER_WITH_TICKET = 80 * 1024
"""Bytes of a request's header where it may have a Kerberos ticket: Active Directory's have up to 64,000 in base64."""
_log = logging.getLogger("provision")


class ApiServer:
    """Serves one application by the settings `[api]`."""

    def __init__(self, app: object, api: Api, settings: Settings, servers: Servers, clock: Clock) -> None:
        """`app` is the ASGI application, which authenticates every request."""
        self._app, self._api, self._settings, self._servers = app, api, settings, servers
        self._certificates = Certificates(api.pairs(settings.state.absolute()), clock)
        self._served, self._trouble = False, ""
        self._warned: set[str] = set()

    def warnings(self) -> list[ProvisionError]:
        """What an operator should see to."""
        return self._certificates.warnings()

    def states(self) -> Mapping[str, Listening]:
        """Whether it is served."""
        text = f"served at {self._where()}" if self._served else self._trouble or "begins"
        return {NAME: Listening(text, self._served, self._certificates.expires)}

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
        sock, api = bind_any(self._api.address, self._api.port), self._api
        limits = Limits(
            header=_HEADER_WITH_TICKET if api.kerberos is not None else Limits.header,
            header_seconds=self._settings.header_timeout,
            body=None,
            connections=api.max_connections,
            per_peer=api.max_connections_per_peer,
            authenticated=True,
        )
        app = ServedNames(self._app, api.names)  # type: ignore[arg-type]
        await self._servers.add(app, sock, limits, by_network, lambda: self._certificates.context)
        self._served = True
        _log.info("serving the operators' API at %s", self._where())

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
        return f"https://{f'[{address}]' if isinstance(address, IPv6Address) else address}:{self._api.port}"
