"""Routes of base images: uploads, imports, and what there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from provision.api.images import DamagedImage, Image, ImportOrder, Step, Upload
from provision.service.service import Service
from provision.web.operator.request import InPath, SiteAdmin, SiteOperator, content, failures, new_router

STEPS = "application/x-ndjson"
_STEP = content(STEPS, {"$ref": "#/components/schemas/Step"}, {"stage": "reading the kernel", "fraction": 0.5})
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/uploads", responses=failures(400, 413), openapi_extra={"requestBody": _BYTES})
    async def upload(request: Request, principal: SiteAdmin) -> Upload:
        """Take the request's body into the state directory; the id it gets is good for one import."""
        return await service.images.receive(request.stream())

    @routes.post("/v1/images/{name}", response_class=StreamingResponse, responses={200: _STEP, **failures(400, 413)})
    async def import_image(name: InPath, body: ImportOrder, principal: SiteAdmin) -> StreamingResponse:
        """Import a base image; answers with a line of JSON for each step, the last one with `image` or `problem`."""
        steps = service.images.import_steps(name, body, principal)
        return StreamingResponse(_lines(steps), media_type=STEPS)

    @routes.get("/v1/images", responses=failures())
    def list_images() -> list[Image | DamagedImage]:
        """Every base image by its name."""
        return service.images.listing()

    @routes.post("/v1/images/{name}/verify", responses=failures(404))
    def verify_image(name: InPath, principal: SiteOperator) -> Image:
        """Read every file of the image and compare it with its hash."""
        return service.images.verify(name)

    @routes.delete("/v1/images/{name}", status_code=204, responses=failures(404, 409))
    def remove_image(name: InPath, principal: SiteAdmin) -> Response:
        """Remove a base image that no host uses."""
        service.images.remove(name, principal)
        return Response(status_code=204)

    return routes


async def _lines(steps: AsyncIterator[Step]) -> AsyncIterator[bytes]:
    """Each step as a line of JSON, with the members that it has."""
    async for step in steps:
        yield json.dumps(step.model_dump(mode="json", exclude_unset=True)).encode() + b"\n"
