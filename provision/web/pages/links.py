"""Links to a host's media: made for a BMC or a person, shown once, and revoked."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.links import LinkId, MakeLink
from provision.errors import Invalid
from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import form_of, name_in, number, post, to
from provision.web.pages.rendering import Pages

_ID: TypeAdapter[str] = TypeAdapter(LinkId)


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    links = pages.service.links

    def make(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        return pages.page(request, "link", link=links.make(name, _wanted(request), principal))

    def revoke(request: Request) -> Response:
        principal, name = required(request.scope, PrincipalRole.OPERATOR), name_in(request)
        links.revoke(_id(request), principal)
        return to(f"/hosts/{name}")

    return [post("/hosts/{name}/links", make), post("/hosts/{name}/links/{link}/revoke", revoke)]


def _wanted(request: Request) -> MakeLink:
    form = form_of(request)
    given = {"medium": form.get("medium"), "minutes": number(form, "minutes"), "uses": number(form, "uses")}
    given["address"] = form.get("address", "").strip() or None
    try:
        return MakeLink.model_validate({field: value for field, value in given.items() if value is not None})
    except ValidationError as error:
        where = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
        raise Invalid("link", f"its {where} is not valid", "correct it, and send the form again") from None


def _id(request: Request) -> str:
    try:
        return _ID.validate_python(request.path_params["link"])
    except ValidationError:
        raise Invalid("link", "its id is not valid", "see the links of the host") from None
