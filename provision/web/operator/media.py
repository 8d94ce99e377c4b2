"""Routes of media that are downloaded, and what answers most of them before FastAPI does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from provision.api.media import BaseDisk, MediumDescription
from provision.api.operations import Operation
from provision.boot import DOWNLOADS, OPERATOR, Kind
from provision.errors import NotFound, ProvisionError
from provision.service.service import Service
from provision.web import problems
from provision.web.operator.operations import begun, located
from provision.web.operator.request import (
    InPath,
    Operator,
    Reader,
    SiteReader,
    content,
    failures,
    new_router,
    principal_of,
)
from provision.web.resumed_downloads import ResumedDownloads
from provision.web.stream import PlanResponse, first_byte

_MEDIUM = re.compile(rf"/v1/hosts/([a-z0-9-]{{1,63}})/({'|'.join(map(re.escape, DOWNLOADS))})")
_BINARY = {"type": "string", "format": "binary"}
WHOLE = {"description": "The medium.", **content("application/octet-stream", _BINARY)}
PART = {"description": "The range that was asked for.", **content("application/octet-stream", _BINARY)}
_TREE = content("application/x-tar", _BINARY)
_DHCP = content("text/plain", {"type": "string"}, "interface=eth1\n")


class Download:
    """A host's ISO or disk image, with Range, HEAD and a strong ETag. A revoked token cuts it off, and so does a host
    that is declared compromised."""

    def __init__(self, service: Service) -> None:
        self._service, self._resumed = service, ResumedDownloads()

    def answer(self, name: str, medium: str, request: Request, still: Callable[[], None] = lambda: None) -> Response:
        """The response; raises what keeps the principal from having it. `still` raises, too, as soon as no further byte
        may go."""
        principal = principal_of(request.scope)
        first = first_byte(request.headers.get("range")) == 0
        going_on = self._service.media.going_on(name, principal)  # before the decision, which it is to outlast
        kind = _kind_of(medium)
        plan = self._service.media.plan(name, kind.medium, principal, kind.format, first=first)
        if request.method == "GET":
            self._resumed.follow(principal.name, name, medium, request.headers, plan)
        count = self._service.core.tally.counting(plan, str(OPERATOR))

        def check() -> None:
            going_on()
            still()

        return PlanResponse(plan, "application/octet-stream", count, check=check, file=f"{name}.{kind.suffix}")


class Downloads:
    """Stands before FastAPI and answers what asks for a medium: the first byte of a new host's ISO must not wait for
    FastAPI's layers. What does not fit is FastAPI's to refuse. Who asks is known here already."""

    def __init__(self, app: ASGIApp, download: Download) -> None:
        self._app, self._download = app, download

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _MEDIUM.fullmatch(scope["path"])
        if asked is None or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        try:
            response = await asyncio.to_thread(self._download.answer, asked[1], asked[2], Request(scope))
            await response(scope, receive, send)
        except ProvisionError as error:  # before its first byte: a medium that breaks off later raises another
            await problems.response(error)(scope, receive, send)


def _kind_of(text: str) -> Kind:
    if text not in DOWNLOADS:
        raise NotFound("medium", "does not exist", f"use {', '.join(DOWNLOADS)}")
    return DOWNLOADS[text]


def router(service: Service, download: Download) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()
    _add_digests(routes, service)
    _add_parts(routes, service)
    answers: dict[int | str, dict[str, Any]] = {
        200: WHOLE,
        206: PART,
        304: {"description": "It has the ETag that If-None-Match names."},
    }

    @routes.get(
        "/v1/hosts/{name}/{medium}",
        response_class=Response,
        responses={**answers, **failures(404, 409, 410, 412, 416)},
    )
    def download_medium(name: InPath, medium: str, request: Request) -> Response:
        """The host's iso, disk, disk.qcow2 or disk.raw.zst, with Range and a strong ETag."""
        return download.answer(name, medium, request)

    @routes.head("/v1/hosts/{name}/{medium}", response_class=Response, responses={**answers, **failures(404, 409, 412)})
    def head_medium(name: InPath, medium: str, request: Request) -> Response:
        """What a download of the host's ISO or disk image would answer, without its body."""
        return download.answer(name, medium, request)

    @routes.get("/v1/dhcp", response_class=PlainTextResponse, responses={200: _DHCP, **failures(409)})
    def get_dhcp(principal: SiteReader) -> PlainTextResponse:
        """The dnsmasq configuration for the management networks of this server."""
        return PlainTextResponse(service.exports.dhcp())

    @routes.get("/v1/tree", response_class=StreamingResponse, responses={200: _TREE, **failures(404, 409)})
    def get_tree(principal: SiteReader, images: bool = True) -> StreamingResponse:
        """The secret-free tree for a TFTP server of the operator's own as a ustar archive; its kernels and initrds
        are empty without `images`."""
        return StreamingResponse(service.exports.tree(images=images), media_type="application/x-tar")

    return routes


def _add_parts(routes: APIRouter, service: Service) -> None:
    """The routes of the parts that a station makes disks of by itself."""

    @routes.get(
        "/v1/hosts/{name}/disk/patch", response_class=Response, responses={200: WHOLE, **failures(404, 409, 410)}
    )
    def download_disk_patch(name: InPath, principal: Operator) -> Response:
        """What makes the host's disk image of its base image's: the bytes that no other host has."""
        going_on = service.media.going_on(name, principal)
        data, plan = service.media.disk_patch(name, principal)
        going_on()
        service.core.tally.counting(plan, str(OPERATOR))(0, plan.size)
        return Response(data, media_type="application/octet-stream", headers={"cache-control": "no-store"})

    @routes.get("/v1/images/{name}/disk/sha256", responses=failures(404, 409))
    def describe_base_disk(name: InPath, principal: Operator) -> BaseDisk:
        """The SHA-256 of the base image's disk, which holds nothing of any host."""
        return service.images.disk(name)[1]

    @routes.get(
        "/v1/images/{name}/disk",
        response_class=Response,
        responses={200: WHOLE, 206: PART, **failures(404, 409, 412, 416)},
    )
    def download_base_disk(name: InPath, principal: Operator) -> Response:
        """The base image's disk, which holds nothing of any host, with Range and a strong ETag."""
        return PlanResponse(service.images.disk(name)[0], "application/octet-stream")


def _add_digests(routes: APIRouter, service: Service) -> None:
    """The routes of a medium's SHA-256."""

    @routes.get("/v1/hosts/{name}/{medium}/sha256", responses=failures(404, 409))
    def describe_medium(name: InPath, medium: str, principal: Reader) -> MediumDescription:
        """The SHA-256 of the whole medium, when it is known or the medium is small; else 409, and POST computes it."""
        kind = _kind_of(medium)
        return service.media.describe(name, kind.medium, principal, kind.format)

    @routes.post("/v1/hosts/{name}/{medium}/sha256", status_code=202, responses=begun(404, 409))
    def compute_sha256(name: InPath, medium: str, principal: Reader, response: Response) -> Operation:
        """Begin to compute the SHA-256 of the whole medium, which is then known; the operation's result has it."""
        kind = _kind_of(medium)
        return located(service.media.begin_describing(name, kind.medium, principal, kind.format), response)
