"""Kerberos tickets in requests: HTTP's scheme Negotiate (RFC 4559), with each request by itself.

Browsers show a ticket without anybody's doing, to a request that a page elsewhere has brought about, too. So one that a
browser says to come from anything but a page of this server is refused, whatever it wants.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provision.errors import Denied, ProvisionError, Unauthenticated
from provision.principal import Principal
from provision.service.tickets import Shown, Tickets, Vain
from provision.ticket import Ticket
from provision.web import problems
from provision.web.operator.authentication import Authenticate
from provision.web.protocol import EXCHANGE, Exchange

OFFER = (b"www-authenticate", b"Negotiate")
"""What an answer to nobody says, so that a browser or curl shows its ticket."""

_TICKET = "provision.ticket"
"""Where the scope of a request has the ticket that it has shown."""
_NEGOTIATE = re.compile(rb"(?i:negotiate) +([A-Za-z0-9+/=]{1,65536}) *")
_SCHEME = re.compile(rb"(?i:negotiate)(?: .*)?", re.DOTALL)
_THREADS = 2


class Negotiation:
    """Looks at the ticket of a request before `app` does, and lets everything else through as it is.

    `app` may answer 401 to that; then it is said that a ticket would do.
    """

    def __init__(self, app: ASGIApp, tickets: Tickets) -> None:
        self._app, self._checking = app, Checking(tickets)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = token_of(scope)
        if token is None:
            await self._app(scope, receive, _with(send, OFFER, only=Unauthenticated.status))
            return
        try:
            if not may_come_from(Headers(scope=scope)):
                fact = "a browser sent it, but no page of this server asked it to"
                raise Denied("request", fact, "log in at the web page, or show a token")
            shown = await self._checking.shown(scope, token)
        except ProvisionError as error:
            answer = problems.response(error)
            answer.headers["connection"] = "close"  # what body there is, is not read
            await answer(scope, receive, _with(send, OFFER, only=Unauthenticated.status))
            return
        await self._app({**scope, _TICKET: shown.ticket}, receive, _with(send, proof(shown.answer)))


class Checking:
    """Looks at tickets in threads of its own, as keytab and replay cache are files; and records what was shown in vain
    in another, as that waits for the audit log."""

    def __init__(self, tickets: Tickets) -> None:
        self._tickets = tickets
        self._looking = ThreadPoolExecutor(_THREADS, "tickets")
        self._failing = ThreadPoolExecutor(1, "failed tickets")

    async def shown(self, scope: Scope, token: bytes) -> Shown:
        """What the token of a request is good for. Raises Unauthenticated, Denied, TooMany and Unavailable."""
        run = asyncio.get_running_loop().run_in_executor
        with self._tickets.place():
            found = await run(self._looking, self._tickets.look, token, channels(scope))
        if isinstance(found, Vain):
            raise await run(self._failing, self._tickets.failed, found, _peer(scope))
        return found


def by_ticket(tickets: Tickets, otherwise: Authenticate) -> Authenticate:
    """Whoever has shown the ticket that `Negotiation` has found good; who has shown none is for `otherwise`."""

    def authenticate(scope: Scope) -> Principal | Awaitable[Principal]:
        ticket = scope.get(_TICKET)
        if not isinstance(ticket, Ticket):
            return otherwise(scope)
        return asyncio.get_running_loop().run_in_executor(None, tickets.still, ticket, _peer(scope))

    return authenticate


def token_of(scope: Scope) -> bytes | None:
    """The token of a request with this scheme, empty when it is none; None for a request without, or of two minds."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1 or not _SCHEME.fullmatch(given[0]):
        return None
    found = _NEGOTIATE.fullmatch(given[0])
    try:
        return base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        return b""


def channels(scope: Scope) -> Sequence[bytes]:
    """The channel bindings of the connection that a request came by."""
    exchange = scope.get("extensions", {}).get(EXCHANGE)
    return exchange.channels if isinstance(exchange, Exchange) else ()


def _peer(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def proof(answer: bytes) -> tuple[bytes, bytes]:
    """The header that proves to a client who the server is."""
    return b"www-authenticate", b"Negotiate " + base64.b64encode(answer)


def may_come_from(headers: Mapping[str, str]) -> bool:
    """Whether a request that shows a ticket is one of a program, or of a page of this server; browsers say so by
    Sec-Fetch-Site (Fetch Metadata) or, with what changes something, Origin (RFC 6454).

    "none" means that somebody typed an address, or followed a link in a mail: that may be another site's, which has
    sent the browser on to here. It would save a host's secrets on the operator's disk.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if origin is not None and origin != f"https://{headers.get('host', '')}":
        return False
    return site in (None, "same-origin")


def _with(send: Send, header: tuple[bytes, bytes], only: int | None = None) -> Send:
    """Send answers with one more header: all of them, or `only` those of one status."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == (only or message["status"]):
            message = {**message, "headers": [*message.get("headers", ()), header]}
        await send(message)

    return sending
