"""The page of all hosts, a hundred at a time, where some of them are selected."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.principal import PrincipalRole
from provision.service.grouping import Condition
from provision.service.overview import HostsPage
from provision.service.selections import Action
from provision.web.operator.request import principal_of
from provision.web.pages.asking import FILTERS, asked_number, filters_in, get, to, wanted
from provision.web.pages.live import Live
from provision.web.pages.rendering import Pages


def routes(pages: Pages, live: Live) -> list[Route]:
    """The routes over the pages' service."""
    service = pages.service

    def look(request: Request) -> HostsPage:
        filters, first = filters_in(request.query_params), asked_number(request, "first")
        return service.overview.hosts(principal_of(request.scope), wanted(filters), first)

    def table(request: Request, shown: HostsPage) -> str:
        address = partial(_address, filters_in(request.query_params))
        may_select = principal_of(request.scope).may(PrincipalRole.OPERATOR)
        return pages.part("part_hosts", shown=shown, address=address, may_select=may_select)

    def start(_: Request) -> Response:
        return to("/hosts")

    def show(request: Request) -> Response:
        filters, shown = filters_in(request.query_params), look(request)
        return pages.page(
            request,
            "hosts",
            table=table(request, shown),
            total=shown.total,
            more=shown.total > len(shown.lines),
            filters={field: filters.get(field, "") for field in FILTERS},
            conditions=list(Condition),
            actions=list(Action),
            events=f"/events?{urlencode({**filters, 'first': asked_number(request, 'first')})}",
        )

    async def events(request: Request) -> Response:
        asks, first = principal_of(request.scope), asked_number(request, "first")
        # By what is made of the query, which has many spellings; and it raises while there is time to say so.
        looked_for = wanted(filters_in(request.query_params))
        what = ("hosts", asks.selector, asks.may(PrincipalRole.OPERATOR), first, looked_for)
        return await live.stream(request, what, lambda: look(request), lambda shown: table(request, shown))

    return [get("/", start), get("/hosts", show), Route("/events", events, methods=["GET"], name="get /events")]


def _address(filters: Mapping[str, str], first: int) -> str:
    """Where the page is that begins with a host's number, with the same filters."""
    return f"/hosts?{urlencode({**filters, 'first': first})}"
