"""The operator's application, put together: authentication, before and behind bodies, then downloads and routes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from provision.service.service import Service
from provision.service.tickets import Tickets
from provision.web import problems
from provision.web.bodies import Bodies
from provision.web.guard import Guard
from provision.web.links import LinkDownloads, over_tls
from provision.web.negotiate import Negotiation, by_ticket
from provision.web.operator import (
    audit,
    bmc,
    credentials,
    hosts,
    images,
    inventory,
    links,
    media,
    monitoring,
    operations,
    rollouts,
    secure_boot,
    site_keys,
    tokens,
    tpms,
    webhooks,
)
from provision.web.operator.authentication import Authenticate, Authenticated, reader_by_peer_credentials
from provision.web.operator.description import describe
from provision.web.operator.request import require_admin


def create(service: Service, authenticate: Authenticate, tickets: Tickets | None = None) -> Guard:
    """The operator's application over `service`. Nothing of it answers whom `authenticate` does not know, but a link
    over TLS. With `tickets`, Kerberos's count as well."""
    authenticate = by_ticket(tickets, authenticate) if tickets is not None else authenticate
    download = media.Download(service)
    app = over(service, download)
    # Again behind the body: whoever sends one takes as long as they like, and may be nobody by then.
    still_known = Authenticated(media.Downloads(app, download), authenticate)
    known: ASGIApp = Authenticated(Bodies(still_known, require_admin), authenticate)
    known = Negotiation(known, tickets) if tickets is not None else known
    return Guard(app, LinkDownloads(known, service, over_tls))


def description(service: Service) -> dict[str, Any]:
    """What the application over `service` says of itself (OpenAPI)."""
    return over(service, media.Download(service)).openapi()


def over(service: Service, download: media.Download) -> FastAPI:
    """Its routes, behind which there is nobody to ask who asks."""
    return _application(_routers(service, download))


def _routers(service: Service, download: media.Download) -> tuple[APIRouter, ...]:
    return (
        inventory.router(service),
        hosts.router(service),
        credentials.router(service),
        images.router(service),
        # Before media, whose paths have any second word.
        bmc.router(service),
        tpms.router(service),
        operations.router(service),
        media.router(service, download),
        links.router(service),
        audit.router(service),
        tokens.router(service),
        monitoring.router(service),
        webhooks.router(service),
        rollouts.router(service),
        site_keys.router(service),
        secure_boot.router(service),
    )


def create_metrics(service: Service) -> Guard:
    """The application of the metrics' own socket: who may connect may read them, and nothing else."""
    app = _application([monitoring.metrics_router(service)], described=False)
    return Guard(app, Authenticated(app, reader_by_peer_credentials))


def _application(routers: Iterable[APIRouter], described: bool = True) -> FastAPI:
    app = FastAPI(
        title="provision",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json" if described else None,
        redirect_slashes=False,
        # As they are: including a router would wrap each of its routes once more.
        routes=[route for router in routers for route in router.routes],
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    problems.install(app)
    return app
