"""Routes of operations, which take long; and how the routes that begin one answer."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from provision.api.operations import MOST_WAIT, Operation, OperationId, OperationState
from provision.service.service import Service
from provision.web.operator.request import Operator, failures, new_router

_LOOK_SECONDS = 0.2
_LOCATION = {
    "description": "It has begun, or what does the same goes on; Location is where its end is told.",
    "headers": {
        "Location": {"required": True, "schema": {"type": "string", "pattern": "^/v1/operations/[0-9a-f]{12}$"}}
    },
}


def begun(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The descriptions of the answers of a route that begins an operation: that it has, and these errors."""
    return {202: _LOCATION, **failures(*statuses)}


def located(operation: Operation, response: Response) -> Operation:
    """The answer of such a route (RFC 9110 section 15.3.3)."""
    response.headers["location"] = f"/v1/operations/{operation.id}"
    return operation


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.get("/v1/operations", responses=failures())
    def list_operations(principal: Operator) -> list[Operation]:
        """Every operation that runs or ended lately, the oldest first."""
        return service.operations.listing(principal)

    @routes.get("/v1/operations/{operation}", responses=failures(404))
    async def get_operation(
        operation: Annotated[OperationId, Path()],
        principal: Operator,
        wait: Annotated[int, Query(ge=0, le=MOST_WAIT)] = 0,
        steps: Annotated[int | None, Query(ge=0)] = None,
    ) -> Operation:
        """One operation; at its end, or after `wait` seconds, or as soon as it has another number of `steps`."""
        end = time.monotonic() + wait
        while True:
            found = service.operations.get(operation, principal)
            news = steps is not None and len(found.steps) != steps
            if found.state is not OperationState.RUNNING or news or time.monotonic() >= end:
                return found
            await asyncio.sleep(_LOOK_SECONDS)

    @routes.delete("/v1/operations/{operation}", status_code=204, responses=failures(404))
    def cancel_operation(operation: Annotated[OperationId, Path()], principal: Operator) -> Response:
        """Let an operation end, and undo what it can. One that others wait for, too, goes on without whoever asks."""
        service.operations.cancel(operation, principal)
        return Response(status_code=204)

    return routes
