"""The page of one host, with everything about it, and its window."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.bmc import BmcRow
from provision.boot import Kind, Medium
from provision.errors import NotFound
from provision.principal import Principal, PrincipalRole
from provision.service.selections import Action
from provision.service.service import Service
from provision.web.operator.request import principal_of, required
from provision.web.pages.asking import form_of, get, name_in, number, post, to
from provision.web.pages.live import Live
from provision.web.pages.rendering import Pages
from provision.web.pages.timeline import booting, timeline


def routes(pages: Pages, live: Live) -> list[Route]:
    """The routes over the pages' service."""
    return [*_one(pages, live), *_windows(pages), *_compromised(pages)]


def _one(pages: Pages, live: Live) -> list[Route]:
    service = pages.service

    def show(request: Request) -> Response:
        name, principal = name_in(request), principal_of(request.scope)
        under_way = service.operations.running(principal).get(name)
        return pages.page(
            request,
            "host",
            **_changing(service, name, principal),
            host=service.inventories.host(name, principal),
            decisions=service.reports.explain(name, principal),
            credentials=service.credentials.listing(name, principal),
            contents=service.overview.contents(name, principal),
            media=(Kind(Medium.ISO), Kind(Medium.DISK)),
            bmc=_bmc(service, name, principal),
            tpm=service.tpms.of(name, principal),
            proof=service.proving.last(name),
            actions=[action for action in Action if action.power or action.via],
            under_way=under_way.id if under_way is not None else "",
        )

    async def events(request: Request) -> Response:
        name, principal = name_in(request), principal_of(request.scope)

        def look() -> dict[str, Any]:
            return _changing(service, name, principal)

        await asyncio.to_thread(look)  # raises for a host that is not there, while there is time to say so
        what = ("host", principal.selector, principal.may(PrincipalRole.OPERATOR), name)
        return await live.stream(request, what, look, lambda seen: pages.part("live_host", **seen))

    return [
        get("/hosts/{name}", show),
        Route("/hosts/{name}/events", events, methods=["GET"], name="get /hosts/{name}/events"),
    ]


def _changing(service: Service, name: str, principal: Principal) -> dict[str, Any]:
    """What the parts show that change while they are looked at."""
    line, operates = service.overview.host(name, principal), principal.may(PrincipalRole.OPERATOR)
    links = [(row, service.links.read(row.id)) for row in service.links.listing(principal, name)]
    read = booting(line.status, [read for _, read in links if read is not None])
    window = line.status.window
    return {
        "line": line,
        "caution": service.windows.caution(name, principal) if window is not None and window.open else None,
        "timeline": timeline(line.status, read),
        "read": read,
        "operation": service.operations.latest(name, principal) if operates else None,
        "links": links,
        "may_revoke": operates,
    }


def _bmc(service: Service, name: str, principal: Principal) -> BmcRow | None:
    """Where the host's BMC is, for those who may use it; None when none is set."""
    try:
        return service.bmcs.get(name, principal) if principal.may(PrincipalRole.OPERATOR) else None
    except NotFound:
        return None


def _windows(pages: Pages) -> list[Route]:
    windows = pages.service.windows

    def open_window(request: Request) -> Response:
        principal, form = required(request.scope, PrincipalRole.OPERATOR), form_of(request)
        name = name_in(request)
        windows.open(name, number(form, "minutes"), number(form, "boots"), principal)
        return to(f"/hosts/{name}")

    def close_window(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        windows.close(name, principal)
        return to(f"/hosts/{name}")

    return [post("/hosts/{name}/window", open_window), post("/hosts/{name}/window/close", close_window)]


def _compromised(pages: Pages) -> list[Route]:
    service = pages.service

    def ask(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        service.core.seen(name, principal)
        return pages.page(request, "compromised", host=name, done=None)

    def declare(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        return pages.page(request, "compromised", host=name, done=service.compromises.declare(name, principal))

    path = "/hosts/{name}/compromised"
    return [get(path, ask), post(path, declare)]
