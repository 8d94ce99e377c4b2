"""Who asks, found out once and in front of everything: before a body is read, a medium opened or a route found."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from provision.errors import Denied, ProvisionError
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service.service import Service
from provision.web import problems

Authenticate = Callable[[Scope], Principal]
"""Says of a request's ASGI scope who asks; raises ProvisionError when it is nobody. Quick: the event loop waits."""

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


def by_token(service: Service) -> Authenticate:
    """Whoever shows a good token (RFC 6750 section 2.1: in the request's header, and nowhere else)."""

    def authenticate(scope: Scope) -> Principal:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        bearer = _BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
        peer = scope["client"][0] if scope.get("client") else ""
        return service.logins.by_token(bearer[1] if bearer else None, peer)

    return authenticate


class Authenticated:
    """Lets requests through to `app` that `authenticate` knows the principal of, and answers all others itself."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate) -> None:
        self._app, self._authenticate = app, authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("nothing but HTTP is served here")
        try:
            principal = self._authenticate(scope)
        except ProvisionError as error:
            answer = problems.response(error)
            answer.headers["connection"] = "close"  # what body there is, is not read
            await answer(scope, receive, send)
            return
        await self._app({**scope, PRINCIPAL: principal}, receive, send)
