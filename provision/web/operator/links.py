"""Routes of links, for those who make them; `web/links.py` serves those who have one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from provision.api.links import LinkId, LinkRow, MadeLink, MakeLink
from provision.service.service import Service
from provision.web.operator.request import Asked, InPath, Operator, Reader, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/hosts/{name}/links", responses=failures(400, 404, 409, 413))
    def make_link(name: InPath, body: MakeLink, principal: Operator) -> MadeLink:
        """Make a link to the host's ISO or disk image; its URLs are shown this once."""
        return service.links.make(name, body, principal)

    @routes.get("/v1/links", responses=failures(404))
    def list_links(principal: Reader, host: Asked = None) -> list[LinkRow]:
        """Every link to the hosts that one sees, without its secret, ended ones too, the newest first."""
        return service.links.listing(principal, host)

    @routes.delete("/v1/links/{link}", status_code=204, responses=failures(404))
    def revoke_link(link: Annotated[LinkId, Path()], principal: Operator) -> Response:
        """Revoke a link; what goes out by it is cut off."""
        service.links.revoke(link, principal)
        return Response(status_code=204)

    return routes
