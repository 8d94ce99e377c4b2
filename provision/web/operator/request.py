"""What routes take of a request: who asks, and names; and what all of them may answer beside their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.routing import APIRoute
from starlette.types import Scope

from provision.api.problem import MEDIA_TYPE
from provision.errors import (
    Conflict,
    Denied,
    Gone,
    Invalid,
    NotFound,
    ProvisionError,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from provision.model import Name
from provision.principal import Principal, PrincipalRole, spelled
from provision.web import problems
from provision.web.operator.authentication import PRINCIPAL

InPath = Annotated[Name, Path()]
"""A host's, credential's or image's name in a path. Everything that a request names is of a type from here on."""
Asked = Annotated[Name | None, Query()]
"""A host's name in a query."""

PROBLEM = "#/components/schemas/ProblemDocument"
_WORDS = {
    400: "The body is not whole.",
    401: "Nobody knows who asks.",
    403: "The request is not allowed.",
    404: "What it names is not there.",
    409: "The present state does not allow it.",
    410: "It has changed since the download began.",
    412: "It is not the one that If-Match names.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    416: "The range is not of the medium.",
    422: "The request is not of the right form, or its content cannot be taken.",
    429: "Its peer has asked too often in vain.",
    500: "A failure that nobody foresaw; its type is all that is said.",
    503: "Something outside (disk, interface, store) does not work now, so nothing is done.",
}
_SAMPLES: dict[int, ProvisionError] = {
    401: Unauthenticated("request", "has no valid token", "log in with 'provision login', or show another token"),
    403: Denied("node1", "has 'storage: none', so no disk could take its image", "write its ISO", "no-storage"),
    404: NotFound("node9", "no host of this name is in the inventory", "see 'provision host list'"),
    409: Conflict("inventory", "nothing has been applied yet", "run 'provision apply FILE'"),
    410: Gone("node1: iso", "its medium has changed since your download began", "download it from the first byte"),
    413: TooLarge("request", "its body has more than 64 KiB", "send less, or in parts"),
    422: Invalid("node1", "a window has 1 to 10080 minutes and 1 to 100 boots", "choose values in those ranges"),
    429: TooMany("request", "there were too many without a valid token", "wait 30 seconds", 30),
    503: Unavailable("audit.log", "the audit log cannot be written (No space left on device)", "make room"),
}
_ALWAYS = (401, 403, 422, 429, 500, 503)


def principal_of(scope: Scope) -> Principal:
    """Who asks; the request was authenticated before."""
    principal = scope[PRINCIPAL]
    assert isinstance(principal, Principal)  # noqa: S101  (Authenticated stands in front)
    return principal


def required(scope: Scope, role: PrincipalRole, whole: bool = False) -> Principal:
    """Who asks, when they may do what `role` may, and see all hosts if it is about the `whole` site; raises Denied."""
    principal = principal_of(scope)
    if not principal.may(role):
        fact = f"has the role {principal.role}, and this takes {role}"
        raise Denied(principal.name, fact, f"ask somebody with the role {role}", "role")
    if whole and principal.selector:
        fact = f"sees only hosts with {spelled(principal.selector)}, and this concerns the whole site"
        raise Denied(principal.name, fact, "let somebody do it whose token has no selector", "selector")
    return principal


def require_admin(scope: Scope) -> None:
    """Raise Denied unless an admin asks: nobody else sends large bodies, and none is to be parsed before that shows."""
    required(scope, PrincipalRole.ADMIN)


@dataclass(frozen=True)
class Needed:
    """What it takes to use a route: a role, and to see all hosts when it is about the `whole` site."""

    role: PrincipalRole
    whole: bool


_NEEDED: dict[Any, Needed] = {}
"""By what routes depend on."""


def _at_least(role: PrincipalRole, whole: bool = False) -> Any:
    """`required` as what a route depends on."""

    async def asking(request: Request) -> Principal:
        return required(request.scope, role, whole)

    _NEEDED[asking] = Needed(role, whole)
    return Depends(asking)


def needed(route: APIRoute) -> Needed:
    """What it takes to use a route. What needs nothing more is for everybody who is known."""
    found = (_NEEDED[one.call] for one in route.dependant.dependencies if one.call in _NEEDED)
    return next(found, Needed(PrincipalRole.READER, whole=False))


Reader = Annotated[Principal, _at_least(PrincipalRole.READER)]
"""Who asks, with any role. A route that names nobody is for every principal; policy decides on media."""
Auditor = Annotated[Principal, _at_least(PrincipalRole.AUDITOR)]
Operator = Annotated[Principal, _at_least(PrincipalRole.OPERATOR)]
Admin = Annotated[Principal, _at_least(PrincipalRole.ADMIN)]
"""Who asks, and that they may. What the service does for them concerns hosts that they see."""
SiteReader = Annotated[Principal, _at_least(PrincipalRole.READER, whole=True)]
SiteAuditor = Annotated[Principal, _at_least(PrincipalRole.AUDITOR, whole=True)]
SiteOperator = Annotated[Principal, _at_least(PrincipalRole.OPERATOR, whole=True)]
SiteAdmin = Annotated[Principal, _at_least(PrincipalRole.ADMIN, whole=True)]
"""The same for what concerns the whole site."""


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The descriptions of a route's errors: these, and those of every route."""
    return {status: _failure(status) for status in sorted({*statuses, *_ALWAYS})}


@cache
def _failure(status: int) -> dict[str, Any]:
    """One error's description. Not by `model`: FastAPI would make a type of its own for each error of each route."""
    described = {"description": _WORDS[status]}
    sample = _SAMPLES.get(status) or problems.plain("request", _WORDS[status].lower().rstrip("."), status, "")
    return described | content(MEDIA_TYPE, {"$ref": PROBLEM}, sample.details())


def content(media_type: str, schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    """The description of an answer that is not JSON; media are described without an example."""
    described = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"content": {media_type: described}}


def new_router() -> APIRouter:
    """A router whose operations have the names of their functions: stable, and no two alike."""
    return APIRouter(generate_unique_id_function=lambda route: route.name)
