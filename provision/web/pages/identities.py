"""The identity that a host keeps on its own disk: another one for it, or none any more."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import get, name_in, post, to
from provision.web.pages.rendering import Pages


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    ends = pages.service.decommissions

    def reprovision(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        ends.reprovision(name, principal)
        return to(f"/hosts/{name}")

    def ask(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        pages.service.core.seen(name, principal)
        return pages.page(request, "decommission", host=name)

    def decommission(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        ends.decommission(name, principal)
        return to(f"/hosts/{name}")

    path = "/hosts/{name}/decommission"
    return [post("/hosts/{name}/reprovision", reprovision), get(path, ask), post(path, decommission)]
