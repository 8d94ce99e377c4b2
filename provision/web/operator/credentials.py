"""Routes of credentials: they go in, and never out."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from provision.api.credentials import CredentialRow, NewCredential, Sealed
from provision.model import FileMode, SeedPath
from provision.secret import Secret
from provision.service.service import Service
from provision.web.operator.request import Admin, Asked, InPath, Reader, failures, new_router

_SECRET = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()
    _add_single(routes, service)

    @routes.get("/v1/credentials", responses=failures(404))
    def list_credentials(principal: Reader, host: Asked = None) -> list[CredentialRow]:
        """Every credential's name, place and version; never its content."""
        return service.credentials.listing(host, principal)

    @routes.post("/v1/credentials", responses=failures(400, 404, 413))
    def load_credentials(body: list[NewCredential], principal: Admin, dry_run: bool = False) -> list[Sealed]:
        """Check and seal many credentials in one transaction, or only check them (`dry_run`)."""
        items = [(item.host, item.name, Secret(item.data)) for item in body]
        if dry_run:
            service.credentials.fitting(items, principal)
            return []
        return service.credentials.put_many(items, principal)

    return routes


def _add_single(routes: APIRouter, service: Service) -> None:
    """The routes of one credential."""

    @routes.put(
        "/v1/hosts/{host}/credentials/{name}",
        responses=failures(400, 404, 413),
        openapi_extra={"requestBody": {**_SECRET, "required": True}},
    )
    async def set_credential(
        host: InPath,
        name: InPath,
        request: Request,
        principal: Admin,
        path: SeedPath | None = None,
        mode: FileMode | None = None,
    ) -> Sealed:
        """Check and seal the request's body as a new version of the credential."""
        data = Secret(await request.body())
        return await asyncio.to_thread(service.credentials.put, host, name, data, path, mode, principal)

    @routes.delete("/v1/hosts/{host}/credentials/{name}", status_code=204, responses=failures(404))
    def remove_credential(host: InPath, name: InPath, principal: Admin) -> Response:
        """Remove a credential."""
        service.credentials.remove(host, name, principal)
        return Response(status_code=204)
