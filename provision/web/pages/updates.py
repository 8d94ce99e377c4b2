"""Updates of the image in a host's slots: one that has failed there may be tried again."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import name_in, post, to
from provision.web.pages.rendering import Pages


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""

    def retry(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        pages.service.updates.retry(name, principal)
        return to(f"/hosts/{name}")

    return [post("/hosts/{name}/retry-update", retry)]
