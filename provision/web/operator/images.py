"""Routes of base images: uploads, imports, and what there is."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from provision.api.images import DamagedImage, Image, ImportOrder, Upload
from provision.api.operations import Operation
from provision.service.service import Service
from provision.web.operator.operations import begun, located
from provision.web.operator.request import InPath, SiteAdmin, SiteOperator, failures, new_router

_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/uploads", responses=failures(400, 413), openapi_extra={"requestBody": _BYTES})
    async def upload(request: Request, principal: SiteAdmin) -> Upload:
        """Take the request's body into the state directory; the id it gets is good for one import."""
        return await service.images.receive(request.stream())

    @routes.post("/v1/images/{name}", status_code=202, responses=begun(400, 409, 413))
    def import_image(name: InPath, body: ImportOrder, principal: SiteAdmin, response: Response) -> Operation:
        """Begin to import a base image from uploads; the operation's result is the image. It uses the uploads up."""
        return located(service.images.begin_import(name, body, principal), response)

    @routes.get("/v1/images", responses=failures())
    def list_images() -> list[Image | DamagedImage]:
        """Every base image by its name."""
        return service.images.listing()

    @routes.post("/v1/images/{name}/verify", status_code=202, responses=begun(404, 409))
    def verify_image(name: InPath, principal: SiteOperator, response: Response) -> Operation:
        """Begin to read every file of the image and compare it with its hash; the operation's result is the image."""
        return located(service.images.begin_verify(name, principal), response)

    @routes.delete("/v1/images/{name}", status_code=204, responses=failures(404, 409))
    def remove_image(name: InPath, principal: SiteAdmin) -> Response:
        """Remove a base image that no host uses."""
        service.images.remove(name, principal)
        return Response(status_code=204)

    return routes
