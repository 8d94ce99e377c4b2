"""Routes of receivers of events."""

from __future__ import annotations

from fastapi import APIRouter

from provision.api.webhooks import Replay, Replayed, Tested
from provision.service.service import Service
from provision.web.operator.request import InPath, SiteAdmin, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/webhooks/{name}/test", responses=failures(404, 409))
    def check_webhook(name: InPath, principal: SiteAdmin) -> Tested:
        """Send the receiver an event of the type `webhook-test`, and say whether it takes it."""
        return service.webhooks.test(name, principal)

    @routes.post("/v1/webhooks/{name}/replay", responses=failures(400, 404, 409, 413))
    def replay_webhook(name: InPath, body: Replay, principal: SiteAdmin) -> Replayed:
        """Tell the receiver again of all events from an entry of the audit log on."""
        return service.webhooks.replay(name, body.first, principal)

    return routes
