"""The cookie that a browser is known by (RFC 6265), and the answers that set it and take it away.

The name's prefix makes browsers hold it to what is said here: TLS only, this very host, all paths. Other sites cannot
have it sent (SameSite), and no script can read it (HttpOnly).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from provision.errors import ProvisionError, Unauthenticated
from provision.principal import Principal
from provision.secret import Secret
from provision.service.service import Service
from provision.service.sessions import parse
from provision.web.operator.authentication import Authenticate

COOKIE = "__Host-provision"
LOGIN, TICKET_LOGIN = "/login", "/login/ticket"
"""The paths of the forms to log in, by token and by ticket: what is sent there belongs to no session yet."""
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
_NAME = COOKIE.encode()


def cookie_of(scope: Scope) -> bytes | None:
    """The session's cookie in a request's headers; None when there is none, or more than one."""
    pairs = [
        pair.strip().partition(b"=")
        for name, value in scope["headers"]
        if name == b"cookie"
        for pair in value.split(b";")
    ]
    shown = [value for name, _, value in pairs if name == _NAME]
    return parse(shown[0]) if len(shown) == 1 else None


def by_session(service: Service) -> Authenticate:
    """Whoever has the cookie of a session that has not ended. A token in a header is none of the pages' business."""

    # A thread of its own: failures wait for the audit log, and nothing else is to wait behind any number of them.
    failing = ThreadPoolExecutor(1, "failed sessions")

    def authenticate(scope: Scope) -> Principal | Awaitable[Principal]:
        cookie, peer = cookie_of(scope), scope["client"][0] if scope.get("client") else ""
        if cookie is None or service.sessions.lives(cookie):
            return service.sessions.find(cookie, peer)
        return asyncio.get_running_loop().run_in_executor(failing, service.sessions.find, cookie, peer)

    return authenticate


def begin(response: Response, cookie: Secret) -> Response:
    """Let the browser have the cookie of its session, until it is closed."""
    response.headers["set-cookie"] = f"{COOKIE}={cookie.reveal().decode()}; {_ATTRIBUTES}"
    return response


def end(response: Response) -> Response:
    """Let the browser forget its cookie."""
    response.headers["set-cookie"] = f"{COOKIE}=; {_ATTRIBUTES}; Max-Age=0"
    return response


def to_login(error: ProvisionError) -> Response | None:
    """Where somebody goes whose session is none: to the form. None for another error."""
    return RedirectResponse("/login", 303) if isinstance(error, Unauthenticated) else None
