"""Routes of the inventory: applying it, reading it, checking it against DNS."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from provision.api.hosts import ReplacedMac, ReplaceMac
from provision.api.inventory import APPLIED, Apply, Changes, Discrepancy
from provision.document import Source
from provision.service.inventory import replaced, shown
from provision.service.service import Service
from provision.site import Inventory
from provision.web.operator.request import Admin, InPath, Reader, SiteAdmin, SiteOperator, failures, new_router

_APPLIED = {"content": {"application/json": {"example": APPLIED}}}


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/inventory", responses=failures(400, 409, 413))
    def apply_inventory(body: Apply, principal: SiteAdmin) -> Changes:
        """Show the difference (`dry_run`), or make it in one transaction."""
        files = [Source(file.name, file.text, file.attachments) for file in body.files]
        if body.dry_run:
            _, changes, confirm = service.inventories.preview(files, body.prune)
            return shown(changes, applied=False, confirm=confirm)
        changes = service.inventories.apply(files, prune=body.prune, confirmed=body.confirmed, principal=principal)
        return shown(changes, applied=True, confirm=False)

    @routes.post("/v1/hosts/{name}/replace-mac", responses=failures(400, 404, 409, 413))
    def replace_mac(name: InPath, body: ReplaceMac, principal: Admin) -> ReplacedMac:
        """Show what it changes that a NIC of the host was exchanged (`dry_run`), or change it."""
        do = service.inventories.replacement if body.dry_run else service.inventories.replace_mac
        return replaced(do(name, body.old, body.new, principal), applied=not body.dry_run)

    @routes.get("/v1/inventory", responses={200: _APPLIED, **failures(409)})
    def get_inventory(principal: Reader) -> Inventory:
        """The site and every host as they were applied."""
        return service.inventories.current(principal)

    @routes.get("/v1/check", responses=failures(409))
    def check_inventory(
        principal: SiteOperator, server: Annotated[str | None, Query(max_length=128)] = None
    ) -> list[Discrepancy]:
        """What DNS says against what the inventory says."""
        return service.inventories.check(server, principal)

    return routes
