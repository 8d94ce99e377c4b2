"""Who asks, found out once and in front of everything: before a body is read, a medium opened or a route found."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from provision.errors import Denied, ProvisionError
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service.service import Service
from provision.web import problems

Authenticate = Callable[[Scope], Principal | Awaitable[Principal]]
"""Says of a request's ASGI scope who asks; raises ProvisionError when it is nobody. The event loop waits for it, so
what is not quick has to be awaited."""
Refuse = Callable[[ProvisionError], Response]
"""The answer to whom `Authenticate` does not know."""

PRINCIPAL = "provision.principal"
"""Where the scope of an authenticated request has its principal."""

_BEARER = re.compile(rb"(?i:bearer) +([^ ]{1,200}) *")
_PEER = re.compile(r"uid=[0-9]{1,10}")


def by_peer_credentials(scope: Scope) -> Principal:
    """The user at the other end of the Unix socket, whom the socket's mode and the kernel have let in: an admin.

    Raises Denied for a peer of any other socket.
    """
    name = scope["client"][0] if scope.get("client") else ""
    if not _PEER.fullmatch(name):
        raise Denied(
            "request", "did not come through the operator's Unix socket", "use that socket, on the server itself"
        )
    return Principal(name, PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS)


def reader_by_peer_credentials(scope: Scope) -> Principal:
    """The same user as one who may only look; raises Denied like that."""
    return replace(by_peer_credentials(scope), role=PrincipalRole.READER)


def by_token(service: Service) -> Authenticate:
    """Whoever shows a good token (RFC 6750 section 2.1: in the request's header, and nowhere else)."""

    # A thread of its own: failures wait for the audit log, and nothing else is to wait behind any number of them.
    failing = ThreadPoolExecutor(1, "failed logins")

    def authenticate(scope: Scope) -> Principal | Awaitable[Principal]:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        bearer = _BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
        text, peer = bearer[1] if bearer else None, scope["client"][0] if scope.get("client") else ""
        principal = service.logins.known(text)
        if principal is not None:
            return principal
        return asyncio.get_running_loop().run_in_executor(failing, service.logins.by_token, text, peer)

    return authenticate


class Authenticated:
    """Lets requests through to `app` that `authenticate` knows the principal of, and answers all others itself."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate, refuse: Refuse = problems.response) -> None:
        self._app, self._authenticate, self._refuse = app, authenticate, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("nothing but HTTP is served here")
        try:
            found = self._authenticate(scope)
            principal = found if isinstance(found, Principal) else await found
        except ProvisionError as error:
            answer = self._refuse(error)
            answer.headers["connection"] = "close"  # what body there is, is not read
            await answer(scope, receive, send)
            return
        await self._app({**scope, PRINCIPAL: principal}, receive, send)
