"""Routes of tokens, and of who asks."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from provision.api.tokens import CreatedToken, NewToken, TokenRow, WhoAmI
from provision.service.service import Service
from provision.web.operator.request import InPath, Reader, SiteAdmin, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.get("/v1/principal", responses=failures())
    def get_principal(principal: Reader) -> WhoAmI:
        """Who asks, and what they may."""
        return WhoAmI(
            name=principal.name,
            role=principal.role,
            authentication=principal.authentication,
            selector=dict(principal.selector),
            expires=principal.expires.isoformat() if principal.expires else None,
        )

    @routes.post("/v1/tokens", responses=failures(400, 409, 413))
    def create_token(body: NewToken, principal: SiteAdmin, response: Response) -> CreatedToken:
        """Make a token. What it takes to use it is in this answer, and in no other."""
        response.headers["cache-control"] = "no-store"
        return service.tokens.create(body, principal)

    @routes.get("/v1/tokens", responses=failures())
    def list_tokens(principal: SiteAdmin) -> list[TokenRow]:
        """Every token: what it may, until when, and when it was used last."""
        return service.tokens.listing()

    @routes.delete("/v1/tokens/{name}", status_code=204, responses=failures(404))
    def revoke_token(name: InPath, principal: SiteAdmin) -> Response:
        """Revoke a token; it is good for nothing from now on."""
        service.tokens.revoke(name, principal)
        return Response(status_code=204)

    return routes
