"""The operator's application: everything that the command line does, on the Unix socket only."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from provision.boot import Medium
from provision.document import Source
from provision.errors import NotFound, ProvisionError
from provision.inventory.diff import Difference
from provision.model import FileMode, LabelKey, LabelValue, Name, SeedPath, TypedPath
from provision.secret import Secret
from provision.service.images import ImportOrder
from provision.service.service import Service
from provision.web import problems
from provision.web.bodies import Bodies
from provision.web.guard import Guard
from provision.web.resumed_downloads import Begun
from provision.web.stream import PlanResponse, first_byte

Actor = str
_MEDIUM = re.compile(r"/v1/hosts/([a-z0-9-]{1,63})/(iso|disk)")
InPath = Annotated[Name, Path()]
"""A host's, credential's or image's name in a path. Everything that a request names is of a type from here on."""
Asked = Annotated[Name | None, Query()]
"""A host's name in a query."""


class Wire(BaseModel):
    """A request body; unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class File(Wire):
    """One inventory file with the certificate files that it names; bytes as base64, since they may not be UTF-8."""

    name: TypedPath
    text: Base64Bytes
    attachments: dict[TypedPath, Base64Bytes] = Field(default={}, max_length=1024)


class Apply(Wire):
    """Inventory files, and whether hosts that they do not name go."""

    files: list[File]
    prune: bool = False
    confirmed: bool = False
    dry_run: bool = False


class OpenWindow(Wire):
    """A window; what is left out comes from the site's policy."""

    minutes: int | None = None
    boots: int | None = None


class Accept(Wire):
    """Why an operator takes something as it is."""

    reason: str = Field(max_length=4096)


class NewCredential(Wire):
    """One secret of a load, as base64."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: Name
    name: Name
    data: Base64Bytes = Field(repr=False)


def actor(request: Request) -> Actor:
    """Who asks, from the socket's peer credentials."""
    return str(request.client.host) if request.client else "unknown"


def create(service: Service) -> Guard:
    """The operator's application over `service`."""
    app = FastAPI(
        title="provision", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json", redirect_slashes=False
    )
    problems.install(app)
    download = _media(app, service)
    _inventory(app, service)
    _credentials(app, service)
    _images(app, service)
    _operations(app, service)
    return Guard(app, Bodies(_Downloads(app, download)))


class _Downloads:
    """Stands before FastAPI and answers what asks for a medium: the first byte of a new host's ISO must not wait for
    FastAPI's layers. What does not fit is FastAPI's to refuse."""

    def __init__(self, app: FastAPI, download: Callable[[str, str, Request], Response]) -> None:
        self._app, self._download = app, download

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _MEDIUM.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if asked is None or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        try:
            response = await asyncio.to_thread(self._download, asked[1], asked[2], Request(scope))
            await response(scope, receive, send)
        except ProvisionError as error:  # before its first byte: a medium that breaks off later raises another
            await problems.response(error)(scope, receive, send)


def _inventory(app: FastAPI, service: Service) -> None:
    @app.post("/v1/inventory")
    def apply(body: Apply, request: Request) -> dict[str, Any]:
        """Show the difference (`dry_run`), or make it in one transaction."""
        files = [Source(file.name, file.text, file.attachments) for file in body.files]
        if body.dry_run:
            _, changes, confirm = service.inventories.preview(files, body.prune)
            return {**_difference(changes), "applied": False, "confirm": confirm}
        changes = service.inventories.apply(files, prune=body.prune, confirmed=body.confirmed, actor=actor(request))
        return {**_difference(changes), "applied": True, "confirm": False}

    @app.get("/v1/inventory")
    def inventory() -> dict[str, Any]:
        """The site and every host as they were applied."""
        return service.inventories.current().model_dump(mode="json")

    @app.get("/v1/hosts")
    def hosts(label: LabelKey | None = None, value: LabelValue | None = None) -> list[dict[str, Any]]:
        """All hosts in short, or those whose label has that value."""
        return service.inventories.hosts(label, value)

    @app.get("/v1/hosts/{name}")
    def host(name: InPath) -> dict[str, Any]:
        """One host, whole."""
        return service.inventories.host(name)

    @app.get("/v1/check")
    def check(server: Annotated[str | None, Query(max_length=128)] = None) -> list[dict[str, Any]]:
        """What DNS says against what the inventory says."""
        return service.check(server)


def _difference(changes: Difference) -> dict[str, Any]:
    return {**changes.json(), "lines": changes.lines(), "notes": list(changes.notes)}


def _credentials(app: FastAPI, service: Service) -> None:
    @app.get("/v1/credentials")
    def listing(host: Asked = None) -> list[dict[str, Any]]:
        """Every credential's name, place and version; never its content."""
        return service.credentials.listing(host)

    @app.put("/v1/hosts/{host}/credentials/{name}")
    async def put(
        host: InPath, name: InPath, request: Request, path: SeedPath | None = None, mode: FileMode | None = None
    ) -> dict[str, Any]:
        """Check and seal the request's body as a new version of the credential."""
        data = Secret(await request.body())
        return await asyncio.to_thread(service.credentials.put, host, name, data, path, mode, actor(request))

    @app.post("/v1/credentials")
    def load(body: list[NewCredential], request: Request, dry_run: bool = False) -> list[dict[str, Any]]:
        """Check and seal many credentials in one transaction, or only check them (`dry_run`)."""
        items = [(item.host, item.name, Secret(item.data)) for item in body]
        if dry_run:
            service.credentials.fitting(items)
            return []
        return service.credentials.put_many(items, actor(request))

    @app.delete("/v1/hosts/{host}/credentials/{name}", status_code=204)
    def remove(host: InPath, name: InPath, request: Request) -> Response:
        """Remove a credential."""
        service.credentials.remove(host, name, actor(request))
        return Response(status_code=204)


def _images(app: FastAPI, service: Service) -> None:
    @app.post("/v1/uploads")
    async def upload(request: Request) -> dict[str, str]:
        """Take the request's body into the state directory; the id it gets is good for one import."""
        return {"id": await service.images.receive(request.stream())}

    @app.post("/v1/images/{name}")
    async def import_image(name: InPath, body: ImportOrder, request: Request) -> StreamingResponse:
        """Import a base image; answers with a line of JSON for each step, the last one with `image` or `problem`."""
        steps = service.images.import_steps(name, body, actor(request))
        return StreamingResponse(steps, media_type="application/x-ndjson")

    @app.get("/v1/images")
    def images() -> list[dict[str, Any]]:
        """Every base image by its name."""
        return service.images.listing()

    @app.post("/v1/images/{name}/verify")
    def verify(name: InPath) -> dict[str, Any]:
        """Read every file of the image and compare it with its hash."""
        return service.images.verify(name)

    @app.delete("/v1/images/{name}", status_code=204)
    def remove(name: InPath, request: Request) -> Response:
        """Remove a base image that no host uses."""
        service.images.remove(name, actor(request))
        return Response(status_code=204)


def _media(app: FastAPI, service: Service) -> Callable[[str, str, Request], Response]:
    begun = Begun()

    def medium_of(text: str) -> Medium:
        if text not in ("iso", "disk"):
            raise NotFound("medium", "there is none of this name", "use iso or disk")
        return Medium(text)

    def download(name: InPath, medium: str, request: Request) -> Response:
        """The host's ISO or disk image, with Range, HEAD and a strong ETag."""
        first = first_byte(request.headers.get("range")) == 0
        plan = service.operations.plan(name, medium_of(medium), actor(request), first=first)
        if request.method == "GET":
            begun.follow(actor(request), name, medium, request.headers, plan)
        return PlanResponse(plan, media_type="application/octet-stream")

    app.router.add_api_route("/v1/hosts/{name}/{medium}", download, methods=["GET", "HEAD"])

    @app.get("/v1/hosts/{name}/{medium}/sha256")
    async def sha256(name: InPath, medium: str, request: Request) -> dict[str, Any]:
        """The SHA-256 of the whole medium, computed on demand and remembered."""
        plan = await asyncio.to_thread(service.operations.plan, name, medium_of(medium), actor(request))
        digest = await asyncio.to_thread(service.digests.of, plan)
        return {"host": name, "medium": medium, "sha256": digest, "size": plan.size, "etag": plan.etag}

    return download


def _operations(app: FastAPI, service: Service) -> None:
    @app.get("/v1/explain/{name}")
    def explain(name: InPath) -> list[dict[str, Any]]:
        """For every medium and network: allowed or denied, with reason and remedy."""
        return service.operations.explain(name)

    @app.post("/v1/hosts/{name}/window")
    def open_window(name: InPath, body: OpenWindow, request: Request) -> dict[str, Any]:
        """Let the host boot from the network for a while."""
        return service.operations.open_window(name, body.minutes, body.boots, actor(request))

    @app.delete("/v1/hosts/{name}/window", status_code=204)
    def close_window(name: InPath, request: Request) -> Response:
        """Close the host's window."""
        service.operations.close_window(name, actor(request))
        return Response(status_code=204)

    @app.get("/v1/status")
    def status(host: Asked = None) -> dict[str, Any]:
        """How far each boot has come, and the unknown machines seen."""
        return service.operations.status(host)

    @app.get("/v1/audit")
    def audit(host: Asked = None, limit: Annotated[int, Query(ge=1, le=10000)] = 100) -> list[dict[str, Any]]:
        """The newest entries of the audit log, oldest first."""
        return service.audit_entries(host, limit)

    @app.get("/v1/audit/verify")
    def verify(head: Annotated[list[str], Query()] = []) -> dict[str, Any]:  # noqa: B006  (FastAPI copies it)
        """Check the audit log's chain from its first entry to its head, and that each `head` (SEQ:CHAIN) is in it."""
        return service.audit_verify(head)

    @app.post("/v1/store/accept")
    def accept_store(body: Accept, request: Request) -> dict[str, Any]:
        """Believe the database as it is, every window closed."""
        return service.core.footing.accept_store(body.reason, actor(request))

    @app.post("/v1/clock/accept")
    def accept_clock(body: Accept, request: Request) -> dict[str, Any]:
        """Take the clock as it is, every window closed."""
        return service.core.footing.accept_clock(body.reason, actor(request))

    @app.get("/v1/dhcp")
    def dhcp() -> PlainTextResponse:
        """The dnsmasq configuration for the management networks of this server."""
        return PlainTextResponse(service.operations.dhcp())

    @app.get("/v1/tree")
    def tree(images: bool = True) -> StreamingResponse:
        """The secret-free tree for a TFTP server of the operator's own as a ustar archive; its kernels and initrds
        are empty without `images`."""
        return StreamingResponse(service.operations.archive(images=images), media_type="application/x-tar")

    @app.get("/v1/health")
    def health() -> dict[str, Any]:
        """What this process is serving."""
        return service.health()
