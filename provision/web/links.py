"""Media by link: the one thing that is given to somebody who is not known, because a secret stands in the path.

So it stands before the application, which authenticates everybody else, and answers everything below its directory:
what is not a link and what is none any more look alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from provision.boot import OPERATOR
from provision.edge import Edge
from provision.errors import ProvisionError
from provision.link import DIRECTORY
from provision.service.links import Asked
from provision.service.service import Service
from provision.web import problems
from provision.web.stream import PlanResponse

Asking = Callable[[Scope], Awaitable[Asked | None]]
"""Says where a request came in, and from whom; None when no link is honoured there."""


async def over_tls(scope: Scope) -> Asked | None:
    """Requests of the operator's application that came over TLS, by the socket's word."""
    address = _address(scope)
    return Asked(OPERATOR, address) if scope["scheme"] == "https" and address is not None else None


def on_network(edge: Edge) -> Asking:
    """Requests of a boot listener, in plain HTTP."""

    async def asking(scope: Scope) -> Asked | None:
        address = _address(scope)
        if address is None:
            return None
        origin = await edge.origin(str(address))
        return Asked(origin.channel, address, origin.requester.local)

    return asking


class LinkDownloads:
    """Answers GET and HEAD of what is below the links' directory, and leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, service: Service, asking: Asking) -> None:
        self._app, self._service, self._asking = app, service, asking

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        concerned = scope["type"] == "http" and scope["path"].startswith(DIRECTORY)
        asked = await self._asking(scope) if concerned and scope["method"] in ("GET", "HEAD") else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        try:
            sends = scope["method"] == "GET"
            taken = await asyncio.to_thread(self._service.links.take, scope["path"], asked, sends=sends)
            answer = PlanResponse(taken.plan, "application/octet-stream", taken.seen, check=taken.check)
            await answer(scope, receive, send)
        except ProvisionError as error:  # before its first byte: a medium that breaks off later raises another
            refusal = problems.response(error)
            refusal.headers["cache-control"] = "no-store"
            # What body there is, is not read: a connection with a body that goes on gives way to nobody.
            refusal.headers["connection"] = "close"
            await refusal(scope, receive, send)


def _address(scope: Scope) -> IPv4Address | IPv6Address | None:
    """The peer's address; one that an IPv6 socket has for an IPv4 peer (RFC 4291 section 2.5.5.2) as that peer's."""
    try:
        address = ip_address(scope["client"][0])
    except (TypeError, ValueError):
        return None  # a Unix socket's
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
