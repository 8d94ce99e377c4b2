"""What is done to many hosts: chosen on their page, confirmed with what would be refused, then done and followed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from provision.service.selections import MOST_LINKS, Action, Options, Refusal
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


@dataclass(frozen=True)
class _Chosen:
    """Hosts and what is to be done to them; `refused` are those of them for whom it would be refused now."""

    action: Action
    names: tuple[str, ...]
    refused: tuple[Refusal, ...]

    @property
    def allowed(self) -> tuple[str, ...]:
        """The hosts for whom it would not."""
        out = {refusal.host for refusal in self.refused}
        return tuple(name for name in self.names if name not in out)

    @property
    def seen(self) -> str:
        """What stands for all of it: who sends that has seen it."""
        return fingerprint(self.action, self.names, self.refused)


def _selection(pages: Pages) -> list[Route]:
    service = pages.service

    def choose(fields: Mapping[str, str], given: Sequence[str], principal: Principal) -> _Chosen:
        action, names = _action(fields), _names(service.overview, fields, given, principal)
        for host in names:
            service.core.seen(host, principal)
        return _Chosen(action, names, tuple(service.selections.refusals(names, action, principal)))

    def ask(request: Request, fields: Mapping[str, str], chosen: _Chosen) -> Response:
        """The page that lists what would be refused, and asks."""
        every, limits = "yes" if fields.get("all") == "yes" else "", {"most": MOST_SHOWN, "most_links": MOST_LINKS}
        return pages.page(request, "selection", chosen=chosen, all=every, filters=filters_in(fields), **limits)

    def confirm(request: Request) -> Response:
        principal, query = required(request.scope, PrincipalRole.OPERATOR), request.query_params
        return ask(request, query, choose(query, query.getlist("host"), principal))

    def do(request: Request) -> Response:
        principal, form = required(request.scope, PrincipalRole.OPERATOR), form_of(request)
        chosen = choose(form, form.get("hosts", "").split(), principal)
        action, options = chosen.action, _options(form)
        if form.get("seen") != chosen.seen or not chosen.allowed:
            # Other hosts match by now, or may: they are looked at first. Who was shown as refused stays out of it.
            return ask(request, form, chosen)
        if action.link is not None:
            made, failed = service.selections.links(chosen.allowed, action.link, options, principal)
            return pages.page(request, "made_links", made=made, refused=[*chosen.refused, *failed], medium=action.link)
        begin = service.selections.begin(action, options, principal)
        if len(chosen.names) == 1:  # which has a page of its own, and whose error is the answer
            begin(chosen.names[0])
            return to(f"/hosts/{chosen.names[0]}")
        batch = service.batches.begin(action.words, chosen.allowed, begin, principal, chosen.refused)
        return to(f"/batches/{batch.id}")

    return [get("/selection", confirm), post("/selection", do)]


def _batches(pages: Pages, live: Live) -> list[Route]:
    batches = pages.service.batches

    def part(id_: str, principal: Principal) -> str:
        batch = batches.get(id_, principal)
        rows = sorted(batches.rows(batch, principal), key=lambda row: _ORDER[row.progress])
        counts = Counter(row.progress for row in rows)
        shown, more = rows[:MOST_SHOWN], max(0, len(rows) - MOST_SHOWN)
        return pages.part("part_batch", ended=batch.ended, counts=counts, rows=shown, more=more)

    def show(request: Request) -> Response:
        principal, id_ = required(request.scope, PrincipalRole.OPERATOR), _id(request)
        batch = batches.get(id_, principal)
        total = len(batches.rows(batch, principal))
        return pages.page(request, "batch", batch=batch, total=total, part=part(id_, principal))

    async def events(request: Request) -> Response:
        principal, id_ = required(request.scope, PrincipalRole.OPERATOR), _id(request)
        batches.get(id_, principal)
        return await live.stream(
            request, ("batch", principal.selector, principal.name, id_), partial(part, id_, principal)
        )

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


def fingerprint(action: Action, names: Sequence[str], refused: Sequence[Refusal] = ()) -> str:
    """What stands for an action, its hosts and those of them that are refused: who sends it has seen them."""
    parts = (action, *names, "", *(refusal.host for refusal in refused))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _action(fields: Mapping[str, str]) -> Action:
    try:
        return Action(fields.get("action", ""))
    except ValueError:
        raise Invalid("action", "is not one of those for hosts", "use the buttons below the list of hosts") from None


def _names(
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
