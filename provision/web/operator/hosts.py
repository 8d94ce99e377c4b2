"""Routes of hosts: what they are, how far they have come, what policy says of them, their windows."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from provision.api.hosts import (
    Compromised,
    Decommission,
    Decommissioned,
    HostDetail,
    HostRow,
    HostSlots,
    OpenedWindow,
    OpenWindow,
)
from provision.api.status import Explanation, Status
from provision.model import LabelKey, LabelValue
from provision.service.service import Service
from provision.web.operator.request import Admin, Asked, InPath, Operator, Reader, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()
    _add_windows(routes, service)
    _add_identities(routes, service)

    @routes.get("/v1/hosts", responses=failures())
    def list_hosts(principal: Reader, label: LabelKey | None = None, value: LabelValue | None = None) -> list[HostRow]:
        """All hosts in short, or those whose label has that value."""
        return service.inventories.hosts(principal, label, value)

    @routes.get("/v1/hosts/{name}", responses=failures(404))
    async def get_host(name: InPath, principal: Reader) -> HostDetail:
        """One host, whole."""
        # It waits for nothing, and a thread for it would take as long again.
        return service.inventories.host(name, principal)

    @routes.get("/v1/explain/{name}", response_model_exclude_unset=True, responses=failures(404))
    def explain(name: InPath, principal: Reader) -> list[Explanation]:
        """For every medium and network: allowed or denied, with reason and remedy."""
        return service.reports.explain(name, principal)

    @routes.get("/v1/status", responses=failures(404))
    def get_status(principal: Reader, host: Asked = None) -> Status:
        """How far each boot has come, and the unknown machines seen."""
        return service.reports.status(principal, host)

    @routes.post("/v1/hosts/{name}/compromised", responses=failures(404))
    def declare_compromised(name: InPath, principal: Admin) -> Compromised:
        """Somebody else may have been in the host: end its window, links, tokens, boots and downloads, and give it
        nothing until each of its credentials has new content."""
        return service.compromises.declare(name, principal)

    @routes.post("/v1/hosts/{name}/retry-update", responses=failures(404, 409))
    def retry_update(name: InPath, principal: Operator) -> HostSlots:
        """Let the host try a failed update again."""
        return service.updates.retry(name, principal)

    return routes


def _add_windows(routes: APIRouter, service: Service) -> None:
    """The routes of a host's boot window."""

    @routes.post("/v1/hosts/{name}/window", responses=failures(400, 404, 413))
    def open_window(name: InPath, body: OpenWindow, principal: Operator) -> OpenedWindow:
        """Let the host boot from the network for a while from now on, whatever window it had."""
        return service.windows.open(name, body.minutes, body.boots, principal)

    @routes.delete("/v1/hosts/{name}/window", status_code=204, responses=failures(404))
    def close_window(name: InPath, principal: Operator) -> Response:
        """Close the host's window."""
        service.windows.close(name, principal)
        return Response(status_code=204)


def _add_identities(routes: APIRouter, service: Service) -> None:
    """The routes of the identity that a host keeps on its own disk."""

    @routes.post("/v1/hosts/{name}/decommission", responses=failures(400, 404, 409, 413))
    def decommission(name: InPath, body: Decommission, principal: Admin) -> Decommissioned:
        """Have the host wipe the identity on its disk when it next reports; or forget it, when the disk is lost."""
        ends = service.decommissions
        return ends.lost(name, principal) if body.lost else ends.decommission(name, principal)

    @routes.post("/v1/hosts/{name}/reprovision", responses=failures(404, 409))
    def reprovision(name: InPath, principal: Operator) -> OpenedWindow:
        """Open a window in which the host gets a new identity in place of the one on its disk."""
        return service.decommissions.reprovision(name, principal)
