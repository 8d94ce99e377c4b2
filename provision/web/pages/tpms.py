"""TPMs: which hosts have one; an operator lets one be enrolled and compares its fingerprint, an admin forgets it."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.errors import Invalid
from provision.principal import PrincipalRole
from provision.web.operator.request import principal_of, required
from provision.web.pages.asking import form_of, get, name_in, number, post, to
from provision.web.pages.rendering import Pages

_MINUTES = 30
_MOST = 500  # rows of one page; those that need somebody are the first
_WHOLE = re.compile(r"[0-9a-f]{64}")


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    tpms = pages.service.tpms

    def show(request: Request) -> Response:
        found = tpms.states(principal_of(request.scope))
        return pages.page(request, "tpms", hosts=found[:_MOST], more=max(0, len(found) - _MOST))

    def open_enrolment(request: Request) -> Response:
        principal, form = required(request.scope, PrincipalRole.OPERATOR), form_of(request)
        minutes = number(form, "minutes")
        tpms.open(name_in(request), _MINUTES if minutes is None else minutes, principal)
        return _back(request)

    def close_enrolment(request: Request) -> Response:
        tpms.close(name_in(request), required(request.scope, PrincipalRole.OPERATOR))
        return _back(request)

    def accept(request: Request) -> Response:
        principal = required(request.scope, PrincipalRole.OPERATOR)
        tpms.accept(name_in(request), _fingerprint(request), principal)
        return _back(request)

    def reject(request: Request) -> Response:
        principal = required(request.scope, PrincipalRole.OPERATOR)
        tpms.reject(name_in(request), _fingerprint(request), principal)
        return _back(request)

    def remove(request: Request) -> Response:
        tpms.remove(name_in(request), False, required(request.scope, PrincipalRole.ADMIN))
        return _back(request)

    return [
        get("/tpms", show),
        post("/hosts/{name}/enrolment", open_enrolment),
        post("/hosts/{name}/enrolment/close", close_enrolment),
        post("/hosts/{name}/tpm/accept", accept),
        post("/hosts/{name}/tpm/reject", reject),
        post("/hosts/{name}/tpm/remove", remove),
    ]


def _back(request: Request) -> Response:
    return to(f"/hosts/{name_in(request)}")


def _fingerprint(request: Request) -> str:
    """The whole fingerprint that was typed; raises Invalid for a part of one."""
    text = re.sub(r"[\s:.-]", "", form_of(request).get("fingerprint", "")).lower()
    if not _WHOLE.fullmatch(text):
        raise Invalid("fingerprint", "is not a whole SHA-256", "type all 64 digits that the host's console shows")
    return text
