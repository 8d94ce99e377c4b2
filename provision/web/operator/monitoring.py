"""Routes for whoever watches the service: metrics, and whether it is ready."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from provision.api.status import Health, Ready
from provision.service.service import Service
from provision.web.operator.request import Reader, SiteReader, content, failures, new_router

_EXAMPLE = "# TYPE provision_hosts gauge\nprovision_hosts 3.0\n"
_METRICS = content("text/plain", {"type": "string"}, _EXAMPLE)


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = metrics_router(service)

    @routes.get("/v1/health", responses=failures())
    def get_health(principal: Reader) -> Health:
        """What this process is serving; 200 as long as it answers at all."""
        return service.reports.health(service.listeners(), principal)

    @routes.get("/v1/ready", responses=failures())
    def get_ready(principal: Reader) -> Ready:
        """Whether hosts get their media on every listener: 200, or 503 with everything that is in the way."""
        service.readiness.require()
        return Ready(ready=True)

    return routes


def metrics_router(service: Service) -> APIRouter:
    """The one route that the metrics' own socket has, too."""
    routes = new_router()

    @routes.get("/v1/metrics", response_class=Response, responses={200: _METRICS, **failures()})
    def get_metrics(principal: SiteReader) -> Response:
        """Figures for Prometheus, in its text format 0.0.4."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    return routes
