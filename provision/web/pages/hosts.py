"""The pages of hosts: all of them, a hundred at a time, and one of them with everything about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.boot import Medium
from provision.principal import Principal, PrincipalRole
from provision.web.operator.request import principal_of, required
from provision.web.pages.asking import asked, asked_number, form_of, get, name_in, number, post, to
from provision.web.pages.live import Live
from provision.web.pages.rendering import Pages
from provision.web.pages.timeline import timeline

_FILTERS = ("search", "label", "value")


def routes(pages: Pages, live: Live) -> list[Route]:
    """The routes over the pages' service."""
    return [*_all(pages, live), *_one(pages, live), *_windows(pages)]


def _all(pages: Pages, live: Live) -> list[Route]:
    service = pages.service

    def table(request: Request) -> Callable[[], str]:
        principal, first = principal_of(request.scope), asked_number(request, "first")
        search, label, value = (asked(request, name) for name in _FILTERS)
        return lambda: pages.part(
            "part_hosts",
            shown=service.overview.hosts(principal, search, label, value, first),
            address=_address(request),
        )

    def start(_: Request) -> Response:
        return to("/hosts")

    def show(request: Request) -> Response:
        filters = {name: asked(request, name) for name in _FILTERS}
        return pages.page(
            request,
            "hosts",
            table=table(request)(),
            filters=filters,
            events=f"/events?{urlencode({**filters, 'first': asked_number(request, 'first')})}",
        )

    async def events(request: Request) -> Response:
        asks, first = principal_of(request.scope).selector, asked_number(request, "first")
        what = ("hosts", asks, first, *(asked(request, name) for name in _FILTERS))
        return await live.stream(request, what, table(request))

    return [get("/", start), get("/hosts", show), Route("/events", events, methods=["GET"], name="get /events")]


def _address(request: Request) -> Callable[[int], str]:
    """Where the page is that begins with a host's number, with the same filters."""
    filters = {name: asked(request, name) for name in _FILTERS if asked(request, name)}
    return lambda first: f"/hosts?{urlencode({**filters, 'first': first})}"


def _one(pages: Pages, live: Live) -> list[Route]:
    service = pages.service

    def boot(name: str, principal: Principal) -> str:
        line = service.overview.host(name, principal)
        return pages.part("part_boot", line=line, timeline=timeline(line.status))

    def show(request: Request) -> Response:
        name, principal = name_in(request), principal_of(request.scope)
        return pages.page(
            request,
            "host",
            host=service.inventories.host(name, principal),
            line=service.overview.host(name, principal),
            boot=boot(name, principal),
            decisions=service.reports.explain(name, principal),
            credentials=service.credentials.listing(name, principal),
            links=service.links.listing(principal, name),
            contents=service.overview.contents(name, principal),
            media=[medium for medium in Medium if not medium.from_network],
        )

    async def events(request: Request) -> Response:
        name, principal = name_in(request), principal_of(request.scope)
        make = partial(boot, name, principal)
        await asyncio.to_thread(make)  # raises for a host that is not there, while there is time to say so
        return await live.stream(request, ("host", principal.selector, name), make)

    return [
        get("/hosts/{name}", show),
        Route("/hosts/{name}/events", events, methods=["GET"], name="get /hosts/{name}/events"),
    ]


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
