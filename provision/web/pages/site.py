"""Images, and networks with their listeners: what the site stands on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.errors import Conflict
from provision.web.operator.request import principal_of
from provision.web.pages.asking import get
from provision.web.pages.rendering import Pages


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    service = pages.service

    def images(request: Request) -> Response:
        return pages.page(request, "images", images=service.images.listing())

    def networks(request: Request) -> Response:
        health = service.reports.health(service.listeners(), principal_of(request.scope))
        try:
            found = service.overview.networks()
        except Conflict:  # nothing has been applied yet
            found = []
        others = {name: state for name, state in health.listeners.items() if name not in {n for n, _, _ in found}}
        warnings = [str(warning) for warning in service.core.warnings()]
        return pages.page(request, "networks", networks=found, health=health, others=others, warnings=warnings)

    return [get("/images", images), get("/networks", networks)]
