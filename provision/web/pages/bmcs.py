"""BMCs: an admin says where a host's is, operators ask it. The password goes in by a form, and never out."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.bmc import NewBmc
from provision.errors import Conflict, Invalid, ProvisionError
from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import form_of, get, name_in, post, to
from provision.web.pages.rendering import Pages

_SHOWN = ("url", "user", "ca", "fingerprint", "system")
"""The fields that come back when something is wrong: all but the password."""


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    return [*_settings(pages), *_asked(pages)]


def _settings(pages: Pages) -> list[Route]:
    service = pages.service

    def form(request: Request, values: Mapping[str, str], error: ProvisionError | None = None) -> Response:
        shown = {field: values.get(field, "") for field in _SHOWN}
        status = error.status if error is not None else 200
        return pages.page(request, "bmc", status, host=name_in(request), values=shown, error=error)

    def show(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        service.core.seen(name, principal)
        return form(request, {})

    def put(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        given = form_of(request)
        try:
            service.bmcs.put(name, _wanted(given), principal)
        except Invalid as error:
            return form(request, given, error)
        return to(f"/hosts/{name}")

    def remove(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.ADMIN), name_in(request)
        service.bmcs.remove(name, principal)
        return to(f"/hosts/{name}")

    path = "/hosts/{name}/bmc"
    return [get(path, show), post(path, put), post(f"{path}/remove", remove)]


def _asked(pages: Pages) -> list[Route]:
    service = pages.service

    def check(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        return pages.page(request, "bmc_check", report=service.bmcs.check(name, principal))

    def power(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        return pages.page(request, "power", found=service.bmcs.power(name, principal))

    def cancel(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        service.core.seen(name, principal)
        under_way = service.operations.running(principal).get(name)
        shown = form_of(request).get("operation")
        if under_way is not None and shown not in (None, under_way.id):
            fact = f"has ended by now, and {under_way.kind} has begun"
            raise Conflict("operation", fact, f"look at the page of {name} again")
        if under_way is not None:
            service.operations.cancel(under_way.id, principal)
        return to(f"/hosts/{name}")

    return [
        post("/hosts/{name}/bmc/check", check),
        get("/hosts/{name}/power", power),
        post("/hosts/{name}/operation/cancel", cancel),
    ]


def _wanted(form: Mapping[str, str]) -> NewBmc:
    given = {field: form.get(field, "").strip() for field in _SHOWN}
    given["ca"] = given["ca"].replace("\r\n", "\n")
    try:
        return NewBmc.model_validate({**given, "password": b64encode(form.get("password", "").encode()).decode()})
    except ValidationError as error:
        where = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
        raise Invalid("BMC", f"its {where} is not valid", "correct it, and type the password again") from None
