"""The pages, put together: headers around everything, then the session, then bodies and forms, then routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from provision.errors import ProvisionError
from provision.link import DIRECTORY
from provision.service.service import Service
from provision.web.bodies import MIB, Bodies
from provision.web.guard import Guard
from provision.web.operator.authentication import Authenticate, Authenticated
from provision.web.operator.request import require_admin
from provision.web.pages import (
    audit,
    bmcs,
    docs,
    host,
    hosts,
    identities,
    inventory,
    links,
    login,
    media,
    rollouts,
    selection,
    site,
    states,
    tokens,
    tpms,
    unknown,
    updates,
)
from provision.web.pages.forms import Forms
from provision.web.pages.headers import Headers
from provision.web.pages.live import Live
from provision.web.pages.rendering import STATIC, Pages
from provision.web.pages.session import LOGIN, TICKET_LOGIN
from provision.web.problems import plain

_BODIES = 32 * MIB
_OF_THE_API = ("/v1/", DIRECTORY)


def create(service: Service, authenticate: Authenticate) -> Guard:
    """The pages over `service`. But for the form to log in and the static files, which know nothing of any host,
    nothing of them answers whom `authenticate` does not know."""
    pages = Pages(service)
    live = Live(pages)
    routes = [*hosts.routes(pages, live), *host.routes(pages, live), *selection.routes(pages, live)]
    routes += [*states.routes(pages, live), *bmcs.routes(pages), *media.routes(pages), *links.routes(pages)]
    routes += [*unknown.routes(pages), *inventory.routes(pages), *site.routes(pages), *audit.routes(pages)]
    routes += rollouts.routes(pages, live)
    routes += [
        *tpms.routes(pages),
        *identities.routes(pages),
        *updates.routes(pages),
        *tokens.routes(pages),
        *docs.routes(pages),
        *login.routes(pages),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProvisionError)  # noqa: S101  (registered for this type only)
        return pages.error(error, request)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return pages.error(
            plain("page", str(error.detail).lower(), error.status_code, "see the list of hosts"), request
        )

    app.add_exception_handler(ProvisionError, failed)
    app.add_exception_handler(HTTPException, http)
    forms = Forms(app, service.sessions, pages.refusal)
    # Again behind the body: whoever sends one takes as long as they like, and may be nobody by then.
    inner = Bodies(Doors(forms, Authenticated(forms, authenticate, pages.refusal)), require_admin, _BODIES)
    return Guard(app, Headers(Doors(inner, Authenticated(inner, authenticate, pages.refusal))))


class Doors:
    """Which requests go to `app` as they are: the forms to log in, and static files. All others are `known`'s."""

    def __init__(self, app: ASGIApp, known: ASGIApp) -> None:
        self._app, self._known = app, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        is_open = path in (LOGIN, TICKET_LOGIN) or path.startswith(STATIC)
        await (self._app if is_open else self._known)(scope, receive, send)


class Front:
    """The pages and the API behind one address. The API, which knows tokens and no cookies, has all that is below its
    version's path, and links what is below theirs."""

    def __init__(self, api: ASGIApp, pages: ASGIApp) -> None:
        self._api, self._pages = api, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A doubled slash is a single one to both.
        of_the_api = scope["type"] != "http" or f"/{scope['path'].lstrip('/')}".startswith(_OF_THE_API)
        await (self._api if of_the_api else self._pages)(scope, receive, send)
