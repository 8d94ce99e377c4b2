"""What the pages' routes take of a request: names, numbers and forms, each parsed before anything uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from provision.errors import Invalid
from provision.model import Name
from provision.service.grouping import Condition
from provision.service.overview import Wanted
from provision.web import problems
from provision.web.pages.forms import FORM

Handler = Callable[[Request], Response | Awaitable[Response]]
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_DIGITS = 9


def name_in(request: Request, parameter: str = "name") -> str:
    """The name in a request's path; raises Invalid for what is none."""
    return name(request.path_params[parameter])


def name(text: str) -> str:
    """A host's, a token's or a network's name; raises Invalid for what is none."""
    try:
        return _NAME.validate_python(text)
    except ValidationError:
        raise problems.no_such_name() from None


def asked(request: Request, field: str) -> str:
    """A field of the query, "" without."""
    return request.query_params.get(field, "").strip()


def asked_number(request: Request, field: str, digits: int = _DIGITS) -> int:
    """A number in the query, 0 without."""
    return number(request.query_params, field, digits) or 0


def form_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was sent."""
    form: Mapping[str, str] = request.scope[FORM]
    return form


def number(fields: Mapping[str, str], field: str, digits: int = _DIGITS) -> int | None:
    """A field that is a number, None when it is empty; raises Invalid for what is none."""
    text = fields.get(field, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        raise Invalid(field, "is not a number", "write digits only")
    return int(text)


FILTERS = ("search", "label", "value", "state")
"""The fields that say which hosts are looked for."""


def filters_in(fields: Mapping[str, str]) -> dict[str, str]:
    """Those that are filled in."""
    found = ((field, fields.get(field, "").strip()) for field in FILTERS)
    return {field: text for field, text in found if text}


def wanted(filters: Mapping[str, str]) -> Wanted:
    """Which hosts they say; raises Invalid for a state that there is not."""
    state = filters.get("state", "")
    if state and state not in list(Condition):
        raise Invalid("state", "is not a state of hosts", f"use one of: {', '.join(Condition)}")
    text, label, value = (filters.get(field, "") for field in FILTERS[:3])
    return Wanted(text, label, value, Condition(state) if state else None)


def get(path: str, handler: Handler) -> Route:
    """The route of a page."""
    return Route(path, handler, methods=["GET"], name=f"get {path}")


def post(path: str, handler: Handler) -> Route:
    """The route of a form."""
    return Route(path, handler, methods=["POST"], name=f"post {path}")


def to(path: str) -> Response:
    """Where a browser goes after a form has done what it says, by GET."""
    return RedirectResponse(path, 303)


def labels(text: str) -> Sequence[tuple[str, str]]:
    """Labels as people write them, "rack=7,row=a"; raises Invalid."""
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if not all(label and sign and value for label, sign, value in pairs):
        raise Invalid("labels", "are not of the form rack=7,row=a", "write LABEL=VALUE, with commas between")
    return [(label.strip(), value.strip()) for label, _, value in pairs]
