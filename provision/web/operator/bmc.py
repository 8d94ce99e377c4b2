"""Routes of BMCs and power."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from provision.api.bmc import BmcReport, BmcRow, BootOrder, ChangePower, HostPower, NewBmc
from provision.api.operations import Operation
from provision.service.service import Service
from provision.web.operator.operations import begun, located
from provision.web.operator.request import Admin, InPath, Operator, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()
    _add_work(routes, service)

    @routes.put("/v1/hosts/{name}/bmc", responses=failures(400, 404, 409, 413))
    def set_bmc(name: InPath, body: NewBmc, principal: Admin) -> BmcRow:
        """Say where the host's BMC is, and seal its password; not while the host is booted or switched by it."""
        return service.bmcs.put(name, body, principal)

    @routes.get("/v1/hosts/{name}/bmc", responses=failures(404))
    def get_bmc(name: InPath, principal: Operator) -> BmcRow:
        """The host's BMC, never its password."""
        return service.bmcs.get(name, principal)

    @routes.delete("/v1/hosts/{name}/bmc", status_code=204, responses=failures(404, 409))
    def remove_bmc(name: InPath, principal: Admin) -> Response:
        """Forget the host's BMC and its password."""
        service.bmcs.remove(name, principal)
        return Response(status_code=204)

    @routes.post("/v1/hosts/{name}/bmc/check", responses=failures(404, 409))
    def check_bmc(name: InPath, principal: Operator) -> BmcReport:
        """Log in to the host's BMC, and say what it is and what is in the way of using it."""
        return service.bmcs.check(name, principal)

    return routes


def _add_work(routes: APIRouter, service: Service) -> None:
    """The routes of what BMCs do."""

    @routes.get("/v1/hosts/{name}/power", responses=failures(404, 409))
    def get_power(name: InPath, principal: Operator) -> HostPower:
        """Whether the host runs, as its BMC says now."""
        return service.bmcs.power(name, principal)

    @routes.post("/v1/hosts/{name}/power", status_code=202, responses=begun(400, 404, 409, 413))
    def change_power(name: InPath, body: ChangePower, principal: Operator, response: Response) -> Operation:
        """Begin to switch the host on or off; the operation's end is the machine's new state."""
        return located(service.bmcs.change_power(name, body, principal), response)

    @routes.post("/v1/hosts/{name}/boot", status_code=202, responses=begun(400, 404, 409, 413))
    def boot_host(name: InPath, body: BootOrder, principal: Operator, response: Response) -> Operation:
        """Begin to boot the host by its BMC, from powered off to up; the operation's end is that it is up."""
        return located(service.bmc_boots.begin(name, body, principal), response)
