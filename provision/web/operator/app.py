"""The operator's application, put together: authentication, before and behind bodies, then downloads and routes."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from provision.service.service import Service
from provision.web import problems
from provision.web.bodies import Bodies
from provision.web.guard import Guard
from provision.web.links import LinkDownloads, over_tls
from provision.web.operator import audit, credentials, hosts, images, inventory, links, media, tokens
from provision.web.operator.authentication import Authenticate, Authenticated
from provision.web.operator.description import describe
from provision.web.operator.request import require_admin


def create(service: Service, authenticate: Authenticate) -> Guard:
    """The operator's application over `service`. Nothing of it answers whom `authenticate` does not know, but a link
    over TLS."""
    download = media.Download(service)
    routers = (
        inventory.router(service),
        hosts.router(service),
        credentials.router(service),
        images.router(service),
        media.router(service, download),
        links.router(service),
        audit.router(service),
        tokens.router(service),
    )
    app = FastAPI(
        title="provision",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,
        # As they are: including a router would wrap each of its routes once more.
        routes=[route for router in routers for route in router.routes],
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    problems.install(app)
    # Again behind the body: whoever sends one takes as long as they like, and may be nobody by then.
    still_known = Authenticated(media.Downloads(app, download), authenticate)
    known = Authenticated(Bodies(still_known, require_admin), authenticate)
    return Guard(app, LinkDownloads(known, service, over_tls))
