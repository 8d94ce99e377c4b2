"""The pages of hosts: all of them, a hundred at a time, and one of them with everything about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.bmc import BmcRow
from provision.boot import Medium
from provision.errors import NotFound
from provision.principal import Principal, PrincipalRole
from provision.service.grouping import Condition
from provision.service.selections import Action
from provision.web.operator.request import principal_of, required
from provision.web.pages.asking import (
    FILTERS,
    asked_number,
    filters_in,
    form_of,
    get,
    name_in,
    number,
    post,
    to,
    wanted,
)
from provision.web.pages.live import Live
from provision.web.pages.rendering import Pages
from provision.web.pages.timeline import timeline


def routes(pages: Pages, live: Live) -> list[Route]:
    """The routes over the pages' service."""
    return [*_all(pages, live), *_one(pages, live), *_windows(pages)]


def _all(pages: Pages, live: Live) -> list[Route]:
    service = pages.service

    def table(request: Request) -> Callable[[], str]:
        principal, first = principal_of(request.scope), asked_number(request, "first")
        filters = filters_in(request.query_params)
        looked_for, may_select = wanted(filters), principal.may(PrincipalRole.OPERATOR)
        return lambda: pages.part(
            "part_hosts",
            shown=service.overview.hosts(principal, looked_for, first),
            address=partial(_address, filters),
            may_select=may_select,
        )

    def start(_: Request) -> Response:
        return to("/hosts")

    def show(request: Request) -> Response:
        filters = filters_in(request.query_params)
        return pages.page(
            request,
            "hosts",
            table=table(request)(),
            total=len(service.overview.names(principal_of(request.scope), wanted(filters))),
            filters={field: filters.get(field, "") for field in FILTERS},
            conditions=list(Condition),
            actions=list(Action),
            events=f"/events?{urlencode({**filters, 'first': asked_number(request, 'first')})}",
        )

    async def events(request: Request) -> Response:
        asks = principal_of(request.scope)
        what = ("hosts", asks.selector, asks.may(PrincipalRole.OPERATOR), request.url.query)
        return await live.stream(request, what, table(request))

    return [get("/", start), get("/hosts", show), Route("/events", events, methods=["GET"], name="get /events")]


def _address(filters: Mapping[str, str], first: int) -> str:
    """Where the page is that begins with a host's number, with the same filters."""
    return f"/hosts?{urlencode({**filters, 'first': first})}"


def _one(pages: Pages, live: Live) -> list[Route]:
    service = pages.service

    def boot(name: str, principal: Principal) -> str:
        line = service.overview.host(name, principal)
        operation = service.operations.latest(name, principal) if principal.may(PrincipalRole.OPERATOR) else None
        return pages.part("part_boot", line=line, timeline=timeline(line.status), operation=operation)

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
            bmc=_bmc(name, principal),
            actions=[action for action in Action if action.power or action.via],
            under_way=name in service.operations.running(principal),
        )

    def _bmc(name: str, principal: Principal) -> BmcRow | None:
        try:
            return service.bmcs.get(name, principal) if principal.may(PrincipalRole.OPERATOR) else None
        except NotFound:
            return None

    async def events(request: Request) -> Response:
        name, principal = name_in(request), principal_of(request.scope)
        make = partial(boot, name, principal)
        await asyncio.to_thread(make)  # raises for a host that is not there, while there is time to say so
        what = ("host", principal.selector, principal.may(PrincipalRole.OPERATOR), name)
        return await live.stream(request, what, make)

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
