"""What a host is, kept on its own disk or taken along: another identity for it, none any more, or another machine."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.hosts import MovedHost, MoveHost
from provision.errors import Invalid, ProvisionError
from provision.inventory import replacement
from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import form_of, get, name_in, post, to
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
        seen = pages.service.core.seen(name, principal).host.revision
        return pages.page(request, "decommission", host=name, seen=seen)

    def decommission(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        form = form_of(request)
        (ends.lost if form.get("lost") else ends.decommission)(name, principal, form.get("seen", ""))
        return to(f"/hosts/{name}")

    path = "/hosts/{name}/decommission"
    own = [post("/hosts/{name}/reprovision", reprovision), get(path, ask), post(path, decommission)]
    return [*own, *_moving(pages)]


def _moving(pages: Pages) -> list[Route]:
    """Those by which a host moves to new hardware: first it is shown what that changes."""
    service = pages.service

    def look(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        host, given, moved, error = service.core.seen(name, principal).host, request.query_params, None, None
        tag = service.inventories.tag()  # before: a change in between makes it an old one
        if given.get("macs"):
            try:
                order = _order(name, given)
                moved = service.moves.look(name, order.macs, order.uuid, principal).shown(applied=False, tag=tag)
            except ProvisionError as problem:
                error = problem
        nics = {name: one.macs for name, one in host.interfaces.items()}
        shown = {"host": name, "nics": nics, "moved": moved, "fragment": _fragment(moved), "seen": tag, "error": error}
        words = {"macs": given.get("macs", ""), "uuid": given.get("uuid", "")}
        return pages.page(request, "move", error.status if error else 200, **shown, **words)

    def move(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        form = form_of(request)
        order, seen = _order(name, form), form.get("seen")
        service.moves.move(name, order.macs, order.uuid, principal, lambda tag: tag == seen)
        return to(f"/hosts/{name}")

    return [get("/hosts/{name}/move", look), post("/hosts/{name}/move", move)]


def _order(name: str, fields: Mapping[str, str]) -> MoveHost:
    """What the fields say of the new machine. Raises Invalid."""
    try:
        uuid = fields.get("uuid", "").strip() or None
        return MoveHost.model_validate({"macs": fields.get("macs", "").split(), "uuid": uuid})
    except ValueError:
        raise Invalid(name, "a MAC or the UUID is not valid", "write the new machine's") from None


def _fragment(moved: MovedHost | None) -> str:
    """What the inventory's own files are to say then."""
    return replacement.fragment(moved.host, moved.interfaces).rstrip() if moved else ""
