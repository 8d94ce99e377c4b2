"""The roll-out of a base image: begun, followed host by host, paused, gone on with, and taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.rollouts import RolloutStatus, StartRollout
from provision.api.status import HostStatus
from provision.errors import Invalid, NotFound
from provision.principal import Principal, PrincipalRole
from provision.service.service import Service
from provision.web.operator.request import required
from provision.web.pages.asking import form_of, get, labels, number, post, to
from provision.web.pages.live import Live
from provision.web.pages.rendering import Pages

MOST_SHOWN = 500
"""Rows of the page; how many there are more is said."""
_ORDER = {"failed": 0, "pending": 1, "up": 2}
_FIELDS = {"percent": "percent", "failures": "max_failures", "minutes": "minutes"}
"""The form's names of numbers, and the API's."""


@dataclass(frozen=True)
class Row:
    """A host that was moved: since when, what came of it, and how far its next boot is by now ("" before that)."""

    host: str
    moved: str
    outcome: str
    text: str


def routes(pages: Pages, live: Live) -> list[Route]:
    """The routes over the pages' service."""
    return [*_shown(pages, live), *_done(pages)]


def _shown(pages: Pages, live: Live) -> list[Route]:
    service = pages.service

    def part() -> str:
        status = _status(service)
        if status is None:
            return pages.part("part_rollout", status=None)
        moved = sorted(status.hosts, key=lambda one: (_ORDER.get(one.outcome, 0), one.host))
        seen = _statuses(service, [one.host for one in moved[:MOST_SHOWN]])
        rows = [
            Row(one.host, one.moved, one.outcome, _text(one.outcome, one.moved, seen.get(one.host)))
            for one in moved[:MOST_SHOWN]
        ]
        counts = Counter(one.outcome for one in status.hosts)
        bar = {**{outcome: counts[outcome] for outcome in _ORDER}, "left": status.left}
        return pages.part("part_rollout", status=status, rows=rows, bar=bar, more=len(moved) - len(rows))

    def show(request: Request) -> Response:
        _reader(request)
        bases = [image.name for image in service.images.listing()]
        return pages.page(request, "rollouts", status=_status(service), part=part(), bases=bases)

    async def events(request: Request) -> Response:
        _reader(request)
        return await live.stream(request, ("rollout",), part)

    return [
        get("/rollout", show),
        Route("/rollout/events", events, methods=["GET"], name="get /rollout/events"),
    ]


def _done(pages: Pages) -> list[Route]:
    rollouts = pages.service.rollouts

    def start(request: Request) -> Response:
        principal = _admin(request)
        rollouts.start(_wanted(form_of(request)), principal)
        return to("/rollout")

    def doing(act: Callable[[Principal], object]) -> Callable[[Request], Response]:
        def do(request: Request) -> Response:
            act(_admin(request))
            return to("/rollout")

        return do

    def ask(request: Request) -> Response:
        _admin(request)
        status = rollouts.status()
        return pages.page(request, "rollback", status=status, seen=status.started, done=None)

    def roll_back(request: Request) -> Response:
        admin, seen = _admin(request), form_of(request).get("seen")
        done = rollouts.roll_back(admin, lambda started: started.isoformat() == seen)
        return pages.page(request, "rollback", status=None, done=done)

    return [
        post("/rollout", start),
        post("/rollout/pause", doing(rollouts.pause)),
        post("/rollout/continue", doing(rollouts.go_on)),
        get("/rollout/rollback", ask),
        post("/rollout/rollback", roll_back),
    ]


def _reader(request: Request) -> Principal:
    return required(request.scope, PrincipalRole.READER, whole=True)


def _admin(request: Request) -> Principal:
    return required(request.scope, PrincipalRole.ADMIN, whole=True)


def _status(service: Service) -> RolloutStatus | None:
    try:
        return service.rollouts.status()
    except NotFound:
        return None


def _statuses(service: Service, names: list[str]) -> Mapping[str, HostStatus]:
    return {status.host: status for status in service.reports.of_hosts(names)}


def _text(outcome: str, moved: str, status: HostStatus | None) -> str:
    """How far the boot of a host is that is waited for."""
    if outcome != "pending":
        return ""
    if (
        status is None
        or status.started is None
        or datetime.fromisoformat(status.started) < datetime.fromisoformat(moved)
    ):
        return "has not booted yet"
    if status.stage == "nothing":
        return "has begun to boot"
    return f"{status.stage} {status.parts[status.stage]} %" if status.stage in status.parts else status.stage


def _wanted(form: Mapping[str, str]) -> StartRollout:
    given = {there: number(form, here) for here, there in _FIELDS.items()}
    fields = {"base": form.get("base", ""), "selector": dict(labels(form.get("selector", "")))}
    try:
        return StartRollout.model_validate({**fields, **{name: one for name, one in given.items() if one is not None}})
    except ValidationError as error:
        where = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
        raise Invalid("roll-out", f"its {where} is not valid", "correct it, and send the form again") from None
