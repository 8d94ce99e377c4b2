"""Routes of the roll-out of a base image."""

from __future__ import annotations

from fastapi import APIRouter

from provision.api.rollouts import RolledBack, RolloutStatus, StartRollout
from provision.service.service import Service
from provision.web.operator.request import SiteAdmin, SiteReader, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/rollout", responses=failures(400, 404, 409, 413))
    def start_rollout(body: StartRollout, principal: SiteAdmin) -> RolloutStatus:
        """Give a base image to some hosts at a time; the first are moved at once."""
        return service.rollouts.start(body, principal)

    @routes.get("/v1/rollout", responses=failures(404))
    def get_rollout(principal: SiteReader) -> RolloutStatus:
        """How far the roll-out is."""
        return service.rollouts.status()

    @routes.post("/v1/rollout/pause", responses=failures(404, 409))
    def pause_rollout(principal: SiteAdmin) -> RolloutStatus:
        """Move no more hosts."""
        return service.rollouts.pause(principal)

    @routes.post("/v1/rollout/continue", responses=failures(404, 409))
    def continue_rollout(principal: SiteAdmin) -> RolloutStatus:
        """Go on with a roll-out that is paused or was stopped."""
        return service.rollouts.go_on(principal)

    @routes.delete("/v1/rollout", responses=failures(404))
    def roll_back(principal: SiteAdmin) -> RolledBack:
        """Give every host the base that the inventory says."""
        return service.rollouts.roll_back(principal)

    return routes
