"""Machines that asked and are in no inventory, and how one of them becomes a host."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.errors import NotFound, ProvisionError
from provision.inventory import adoption
from provision.principal import Principal, PrincipalRole
from provision.web.operator.request import principal_of, required
from provision.web.pages.asking import asked, form_of, get, post, to
from provision.web.pages.rendering import Pages


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    service = pages.service

    def show(request: Request) -> Response:
        unknown = service.reports.unknown(principal_of(request.scope))
        return pages.page(request, "unknown", unknown=unknown)

    def check(request: Request) -> Response:
        principal = required(request.scope, PrincipalRole.ADMIN, whole=True)
        mac, network = asked(request, "mac"), asked(request, "network")
        require(principal, mac, network)
        name = asked(request, "name") or adoption.suggested(mac)
        adopted, error, lines = None, None, []
        try:
            adopted = adoption.host(name, mac, network)
            lines = service.inventories.adoption(adopted)[1].lines()
        except ProvisionError as problem:
            error = problem
        fragment = adoption.fragment(adopted) if adopted else ""
        found = {"name": name, "mac": mac, "network": network, "fragment": fragment, "lines": lines, "error": error}
        return pages.page(request, "adopt", error.status if error else 200, **found)

    def adopt(request: Request) -> Response:
        principal, form = required(request.scope, PrincipalRole.ADMIN, whole=True), form_of(request)
        require(principal, form.get("mac", ""), form.get("network", ""))
        adopted = adoption.host(form.get("name", ""), form["mac"], form["network"])
        service.inventories.adopt(adopted, principal)
        return to(f"/hosts/{adopted.name}")

    def require(principal: Principal, mac: str, network: str) -> None:
        """What is adopted was seen: nobody makes a host of a link."""
        if not any((u.mac, u.network) == (mac, network) for u in service.reports.unknown(principal)):
            raise NotFound("machine", "no unknown machine of this MAC was seen there", "see the unknown machines")

    return [get("/unknown", show), get("/unknown/adopt", check), post("/unknown/adopt", adopt)]
