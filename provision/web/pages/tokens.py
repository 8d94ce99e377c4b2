"""Tokens: what there are, a new one, which is shown once, and the end of one."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.tokens import NewToken
from provision.errors import Invalid
from provision.principal import Principal, PrincipalRole
from provision.token import DEFAULT_DAYS, MOST_DAYS
from provision.web.operator.request import required
from provision.web.pages.asking import form_of, get, labels, name_in, number, post, to
from provision.web.pages.rendering import Pages


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    tokens = pages.service.tokens

    def page(request: Request, created: object = None) -> Response:
        days = {"days": DEFAULT_DAYS, "most_days": MOST_DAYS}
        return pages.page(
            request, "tokens", tokens=tokens.listing(), created=created, roles=list(PrincipalRole), **days
        )

    def show(request: Request) -> Response:
        _admin(request)
        return page(request)

    def create(request: Request) -> Response:
        principal = _admin(request)
        return page(request, tokens.create(_wanted(request), principal))

    def revoke(request: Request) -> Response:
        tokens.revoke(name_in(request), _admin(request))
        return to("/tokens")

    return [get("/tokens", show), post("/tokens", create), post("/tokens/{name}/revoke", revoke)]


def _admin(request: Request) -> Principal:
    return required(request.scope, PrincipalRole.ADMIN, whole=True)


def _wanted(request: Request) -> NewToken:
    form = form_of(request)
    fields = {"name": form.get("name", "").strip(), "role": form.get("role", "")}
    days, selector = number(form, "days"), dict(labels(form.get("selector", "")))
    try:
        return NewToken.model_validate({**fields, "days": DEFAULT_DAYS if days is None else days, "selector": selector})
    except ValidationError as error:
        where = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
        raise Invalid("token", f"its {where} is not valid", "correct it, and send the form again") from None
