"""Routes of the inventory: applying it, reading it, checking it against DNS."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from provision.api.hosts import MovedHost, MoveHost, ReplacedMac, ReplaceMac
from provision.api.inventory import APPLIED, Apply, Changes, Discrepancy
from provision.document import Source
from provision.principal import Principal
from provision.service.inventory import NOTHING, Fits, Inventories, entity_tag, replaced, shown
from provision.service.service import Service
from provision.site import Inventory
from provision.web.operator.request import Admin, InPath, Reader, SiteAdmin, SiteOperator, failures, new_router
from provision.web.stream import listed

IfMatch = Annotated[str | None, Header(max_length=1024)]
"""Entity tags of what may be changed (RFC 9110 section 13.1.1)."""
_APPLIED = {"content": {"application/json": {"example": APPLIED}}}


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/inventory", responses=failures(400, 409, 412, 413))
    def apply_inventory(body: Apply, principal: SiteAdmin, response: Response, if_match: IfMatch = None) -> Changes:
        """Show the difference (`dry_run`), or make it in one transaction. The same again changes nothing. With If-Match
        it is made to the inventory with that ETag only."""
        made = _applied(service.inventories, body, principal, if_match)
        response.headers["etag"] = made.etag
        return made

    _add_exchanges(routes, service)

    @routes.get("/v1/inventory", responses={200: _APPLIED, **failures(409)})
    def get_inventory(principal: Reader, response: Response) -> Inventory:
        """The site and every host as they were applied."""
        found = service.inventories.current(principal)
        response.headers["etag"] = entity_tag(found)
        return found

    @routes.get("/v1/check", responses=failures(409))
    def check_inventory(
        principal: SiteOperator, server: Annotated[str | None, Query(max_length=128)] = None
    ) -> list[Discrepancy]:
        """What DNS says against what the inventory says."""
        return service.inventories.check(server, principal)

    return routes


def _add_exchanges(routes: APIRouter, service: Service) -> None:
    """The routes of hosts whose hardware was exchanged, a NIC or all of it."""

    @routes.post("/v1/hosts/{name}/replace-mac", responses=failures(400, 404, 409, 412, 413))
    def replace_mac(name: InPath, body: ReplaceMac, principal: Admin, if_match: IfMatch = None) -> ReplacedMac:
        """Show what it changes that a NIC of the host was exchanged (`dry_run`), or change it. With If-Match it
        is changed in the inventory with that ETag only."""
        inventories = service.inventories
        if body.dry_run:
            tag = inventories.tag()  # before: a change in between makes it an old one
            return replaced(inventories.replacement(name, body.old, body.new, principal), applied=False, tag=tag)
        made = inventories.replace_mac(name, body.old, body.new, principal, _fits(if_match))
        return replaced(made, applied=True, tag=entity_tag(made.inventory))

    @routes.post("/v1/hosts/{name}/move", responses=failures(400, 404, 409, 412, 413))
    def move_host(name: InPath, body: MoveHost, principal: Admin, if_match: IfMatch = None) -> MovedHost:
        """Show what it changes that the host moves to new hardware (`dry_run`), or move it: nothing of the old machine
        is believed then. With If-Match it is moved in the inventory with that ETag only."""
        tag = service.inventories.tag()  # before: a change in between makes it an old one
        if body.dry_run:
            return service.moves.look(name, body.macs, body.uuid, principal).shown(applied=False, tag=tag)
        made = service.moves.move(name, body.macs, body.uuid, principal, _fits(if_match))
        return made.shown(applied=True, tag=entity_tag(made.inventory))


def _applied(inventories: Inventories, body: Apply, principal: Principal, if_match: str | None) -> Changes:
    """The difference that the files make, made unless that is only to be shown."""
    files, tag = [Source(file.name, file.text, file.attachments) for file in body.files], inventories.tag()
    if body.dry_run:
        _, changes, confirm = inventories.preview(files, body.prune)
        return shown(changes, applied=False, confirm=confirm, tag=tag)
    changes, made = inventories.apply(
        files,
        prune=body.prune,
        confirmed=body.confirmed,
        principal=principal,
        fits=_fits(if_match),
    )
    return shown(changes, applied=True, confirm=False, tag=made)


def _fits(if_match: str | None) -> Fits:
    """What If-Match asks for: without it, nothing."""
    return lambda tag: if_match is None or _matches(tag, if_match)


def _matches(tag: str, if_match: str) -> bool:
    """Whether the inventory with that tag is one of those in If-Match; "*" is any that there is."""
    return listed(tag, if_match) and not (tag == NOTHING and if_match.strip() == "*")
