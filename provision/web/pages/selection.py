"""What is done to many hosts: chosen on their page, confirmed with what would be refused, then done and followed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.operations import OperationId
from provision.errors import Invalid
from provision.principal import Principal, PrincipalRole
from provision.service.batches import Progress
from provision.service.overview import Overview
from provision.service.selections import MOST_LINKS, Action, Options
from provision.service.service import Service
from provision.web.operator.request import required
from provision.web.pages.asking import filters_in, form_of, get, name, number, post, to, wanted
from provision.web.pages.live import Live
from provision.web.pages.rendering import Pages

MOST_SHOWN = 500
"""Rows of one page; how many there are more is said."""
_ID: TypeAdapter[str] = TypeAdapter(OperationId)


def routes(pages: Pages, live: Live) -> list[Route]:
    """The routes over the pages' service."""
    return [*_selection(pages), *_batches(pages, live)]


def _selection(pages: Pages) -> list[Route]:
    service = pages.service

    def confirm(request: Request) -> Response:
        principal, query = required(request.scope, PrincipalRole.OPERATOR), request.query_params
        return asks(request, principal, query, query.getlist("host"))

    def asks(request: Request, principal: Principal, fields: Mapping[str, str], given: Sequence[str]) -> Response:
        """The page that lists what would be refused, and asks."""
        action, names = _action(fields), _chosen(service.overview, fields, given, principal)
        for host in names:
            service.core.seen(host, principal)
        return pages.page(
            request,
            "selection",
            action=action,
            names=names,
            refused=service.selections.refusals(names, action, principal),
            seen=fingerprint(action, names),
            all="yes" if fields.get("all") == "yes" else "",
            filters=filters_in(fields),
            most=MOST_SHOWN,
            most_links=MOST_LINKS,
        )

    def do(request: Request) -> Response:
        principal, form = required(request.scope, PrincipalRole.OPERATOR), form_of(request)
        action, given = _action(form), form.get("hosts", "").split()
        names = _chosen(service.overview, form, given, principal)
        if form.get("seen") != fingerprint(action, names):
            return asks(request, principal, form, given)  # other hosts match by now: they are looked at first
        options = _options(form)
        if action.link is not None:
            made, refused = service.selections.links(names, action.link, options, principal)
            return pages.page(request, "made_links", made=made, refused=refused, medium=action.link)
        return to(_begin(service, action, names, options, principal))

    return [get("/selection", confirm), post("/selection", do)]


def _begin(service: Service, action: Action, names: Sequence[str], options: Options, principal: Principal) -> str:
    """Do it, and where that is followed. For a single host that is its own page, and its error is the answer."""
    begin = service.selections.begin(action, options, principal)
    if len(names) == 1:
        begin(names[0])
        return f"/hosts/{names[0]}"
    return f"/batches/{service.batches.begin(action.words, names, begin, principal).id}"


def _batches(pages: Pages, live: Live) -> list[Route]:
    batches = pages.service.batches

    def part(id_: str, principal: Principal) -> str:
        batch = batches.get(id_, principal)
        rows = sorted(batch.rows.values(), key=lambda row: _ORDER[row.progress])
        return pages.part("part_batch", batch=batch, rows=rows[:MOST_SHOWN], more=max(0, len(rows) - MOST_SHOWN))

    def show(request: Request) -> Response:
        principal, id_ = required(request.scope, PrincipalRole.OPERATOR), _id(request)
        return pages.page(request, "batch", batch=batches.get(id_, principal), part=part(id_, principal))

    async def events(request: Request) -> Response:
        principal, id_ = required(request.scope, PrincipalRole.OPERATOR), _id(request)
        batches.get(id_, principal)
        return await live.stream(request, ("batch", principal.selector, id_), partial(part, id_, principal))

    def cancel(request: Request) -> Response:
        principal, id_ = required(request.scope, PrincipalRole.OPERATOR), _id(request)
        batches.cancel(id_, principal)
        return to(f"/batches/{id_}")

    return [
        get("/batches/{batch}", show),
        Route("/batches/{batch}/events", events, methods=["GET"], name="get /batches/{batch}/events"),
        post("/batches/{batch}/cancel", cancel),
    ]


_ORDER = {Progress.FAILED: 0, Progress.RUNNING: 1, Progress.WAITING: 2, Progress.DONE: 3}


def fingerprint(action: Action, names: Sequence[str]) -> str:
    """What stands for an action and its hosts: who sends it has seen which they are."""
    return hashlib.sha256("\0".join((action, *names)).encode()).hexdigest()


def _action(fields: Mapping[str, str]) -> Action:
    try:
        return Action(fields.get("action", ""))
    except ValueError:
        raise Invalid("action", "is not one of those for hosts", "use the buttons below the list of hosts") from None


def _chosen(
    overview: Overview, fields: Mapping[str, str], given: Sequence[str], principal: Principal
) -> tuple[str, ...]:
    """The hosts that were marked, or all that match the filters; raises Invalid when there is none."""
    if fields.get("all") == "yes":
        names = overview.names(principal, wanted(filters_in(fields)))
    else:
        names = tuple(dict.fromkeys(name(text) for text in given))
    if not names:
        raise Invalid("selection", "has no host in it", "mark some hosts, or all that match")
    return names


def _options(form: Mapping[str, str]) -> Options:
    minutes, boots, uses = (number(form, field) for field in ("minutes", "boots", "uses"))
    return Options(minutes, boots, uses, form.get("force") == "yes")


def _id(request: Request) -> str:
    try:
        return _ID.validate_python(request.path_params["batch"])
    except ValidationError:
        raise Invalid("batch", "its id is not valid", "begin it again from the list of hosts") from None
