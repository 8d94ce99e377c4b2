"""Routes of the site's keys. Private halves are in no answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from provision.api.site_keys import Number, RollSiteKey, SiteKeyRow
from provision.service.service import Service
from provision.web.operator.request import SiteAdmin, SiteReader, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.get("/v1/site-keys", responses=failures())
    def list_site_keys(principal: SiteReader) -> list[SiteKeyRow]:
        """Every key of the site: its use and its public half."""
        return service.site_keys.listing()

    @routes.post("/v1/site-keys", responses=failures(400, 409, 413))
    def roll_site_key(body: RollSiteKey, principal: SiteAdmin) -> SiteKeyRow:
        """Make a new key, not in use yet. Images that are made from now on trust it."""
        return service.site_keys.roll(body.use, principal)

    @routes.delete("/v1/site-keys/{number}", status_code=204, responses=failures(404, 409))
    def retire_site_key(number: Annotated[Number, Path()], principal: SiteAdmin, force: bool = False) -> Response:
        """Forget a key with its private half. The next key with the same use is in use from then on. While hosts have
        not booted since that was made, this is a conflict; with `force` it is done."""
        service.site_keys.retire(number, principal, force)
        return Response(status_code=204)

    return routes
