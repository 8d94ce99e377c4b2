"""The picture of a whole site: how its hosts are, in bars by the values of a label, with the same in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.service.grouping import Condition, Group, Groups
from provision.web.operator.request import principal_of
from provision.web.pages.asking import asked, get
from provision.web.pages.live import Live
from provision.web.pages.rendering import Pages

WIDTH = 400
"""Of the longest bar, in the picture's own units."""


@dataclass(frozen=True)
class Stretch:
    """One condition's part of a bar: where it begins and how wide it is."""

    condition: Condition
    count: int
    x: float
    width: float


def routes(pages: Pages, live: Live) -> list[Route]:
    """The routes over the pages' service."""
    service = pages.service

    def part(request: Request) -> Callable[[], str]:
        principal, label = principal_of(request.scope), asked(request, "by")

        def make() -> str:
            found = service.overview.groups(principal, label)
            longest = max((group.total for group in found.groups), default=0)
            bars = [(group, bar(group, longest), _links(found, group)) for group in found.groups]
            whole = found.all
            # Of the whole site, the parts fill all of the width, whatever the groups are.
            return pages.part(
                "part_states", found=found, bars=bars, whole=whole, bar=bar(whole, whole.total), links=_links(found)
            )

        return make

    def show(request: Request) -> Response:
        events = f"/site/events?{urlencode({'by': asked(request, 'by')})}"
        return pages.page(request, "states", part=part(request)(), events=events)

    async def events(request: Request) -> Response:
        selector = principal_of(request.scope).selector
        return await live.stream(request, ("site", selector, asked(request, "by")), part(request))

    return [get("/site", show), Route("/site/events", events, methods=["GET"], name="get /site/events")]


def bar(group: Group, longest: int) -> tuple[Stretch, ...]:
    """The parts of a group's bar, where a bar of `longest` hosts is WIDTH wide. None of them vanishes: one host among
    ten thousand is seen, too."""
    stretches, x = [], 0.0
    for condition in Condition:
        count = group.counts.get(condition, 0)
        if count:
            width = max(3.0, round(WIDTH * count / longest, 1))
            stretches.append(Stretch(condition, count, round(x, 1), width))
            x += width
    return tuple(stretches)


def _links(found: Groups, group: Group | None = None) -> Callable[[Condition | None], str]:
    """Where the hosts of a group are listed, all or those in one condition; "" for those that no filter names."""
    if group is not None and group.value is None:
        return lambda condition: ""
    filters = {"label": found.label, "value": group.value} if group is not None else {}

    def link(condition: Condition | None) -> str:
        return f"/hosts?{urlencode({**filters, **({'state': condition} if condition else {})})}"

    return link
