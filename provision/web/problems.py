"""Errors as problem details (RFC 9457): the same object, fact and way out that the command line prints."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import Scope

from provision.api.problem import MEDIA_TYPE
from provision.errors import Exit, Invalid, ProvisionError, TooMany, Unauthenticated

_KINDS = {
    404: "not-found",
    405: "method-not-allowed",
    412: "precondition-failed",
    415: "unsupported-media-type",
    416: "range-not-satisfiable",
    421: "misdirected",
    422: "invalid",
}
_JSON = re.compile(r"application/(json|[a-z0-9.-]+\+json)")
_NAMES = "names of hosts, credentials and images have at most 63 lower-case letters, digits and '-'"


def response(error: ProvisionError) -> JSONResponse:
    """`error` as an application/problem+json response."""
    return JSONResponse(error.details(), error.status, _headers(error), MEDIA_TYPE)


def _headers(error: ProvisionError) -> dict[str, str] | None:
    if isinstance(error, Unauthenticated):
        return {"www-authenticate": 'Bearer realm="provision"'}  # RFC 6750 section 3
    return {"retry-after": str(error.seconds)} if isinstance(error, TooMany) else None


def install(app: FastAPI) -> None:
    """Make every failure of `app` a problem document; nothing of the request's input is echoed."""

    async def known(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProvisionError)  # noqa: S101  (registered for this type only)
        return response(error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        if any(item["loc"] == ("body",) for item in error.errors()) and not _is_json(request):
            return response(plain("request", "its body is not JSON", 415, "send it as application/json"))
        if any(item["loc"][0] == "path" for item in error.errors()):
            return response(no_such_name())
        # Deeper members may be named by the client, and a name of theirs may be anything.
        where = ", ".join(sorted({".".join(map(str, item["loc"][:2])) for item in error.errors() if _ours(item)}))
        where = where or "the body"
        fact = f"{where} is missing or not of the right form"
        return response(plain("request", fact, 422, "see docs/deployment.md for the route's parameters"))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        answer = response(plain("request", str(error.detail).lower(), error.status_code, ""))
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            answer.headers["allow"] = ", ".join(_methods(app, request.scope))
        return answer

    async def gone(_: Request, error: Exception) -> JSONResponse:
        # Nobody is there to read it. The client has left in the middle of its body, which is not our fault.
        return response(plain("request", "the body is not whole", 400, ""))

    app.add_exception_handler(ProvisionError, known)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, invalid)

    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return internal_error(error)

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unforeseen)


def no_such_name() -> Invalid:
    """The error for a path with a name that nothing can have."""
    return Invalid("request", "a name in its path is not a valid name", _NAMES)


def _is_json(request: Request) -> bool:
    """Whether a request says that it has JSON, or nothing, as its body (RFC 9110 section 8.3, RFC 6839)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return not kind or bool(_JSON.fullmatch(kind))


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """What may be done with a path (RFC 9110 section 10.2.1): each of its methods may have a route of its own."""
    matching = (route for route in app.routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in route.methods or ()})


def _ours(item: dict[str, Any]) -> bool:
    return bool(item["type"] != "extra_forbidden")


def internal_error(error: BaseException) -> JSONResponse:
    """The answer to a failure nobody foresaw: its type, and nothing that it says."""
    return response(plain("server", f"internal error ({type(error).__name__})", 500, "see the server's log"))


def problem(subject: str, fact: str, status: int, remedy: str) -> bytes:
    """The body of an answer that is an error of `plain`."""
    return json.dumps(plain(subject, fact, status, remedy).details()).encode()


def plain(subject: str, fact: str, status: int, remedy: str) -> ProvisionError:
    """An error that is none of the service's own, with an HTTP status."""
    error = ProvisionError(subject, fact, remedy)
    error.status = status
    error.kind = _KINDS.get(status, "failed")
    error.exit = {404: Exit.NOT_FOUND, 412: Exit.CONFLICT, 415: Exit.INVALID, 422: Exit.INVALID}.get(
        status, Exit.FAILED
    )
    return error


def origin_of_error(error: BaseException) -> str:
    """Where `error` was raised, as "function:line"."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else "an unknown place"
