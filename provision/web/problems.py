"""Errors as problem details (RFC 9457): the same object, fact and way out that the command line prints."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from provision.api.problem import MEDIA_TYPE
from provision.errors import Exit, Invalid, ProvisionError, TooMany, Unauthenticated

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

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        if any(item["loc"][0] == "path" for item in error.errors()):
            return response(no_such_name())
        # Deeper members may be named by the client, and a name of theirs may be anything.
        where = ", ".join(sorted({".".join(map(str, item["loc"][:2])) for item in error.errors() if _ours(item)}))
        where = where or "the body"
        fact = f"{where} is missing or not of the right form"
        return response(plain("request", fact, 422, "see docs/deployment.md for the route's parameters"))

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        return response(plain("request", str(error.detail).lower(), error.status_code, ""))

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


def _ours(item: dict[str, Any]) -> bool:
    return bool(item["type"] != "extra_forbidden")


def internal_error(error: BaseException) -> JSONResponse:
    """The answer to a failure nobody foresaw: its type, and nothing that it says."""
    return response(plain("server", f"internal error ({type(error).__name__})", 500, "see the server's log"))


def plain(subject: str, fact: str, status: int, remedy: str) -> ProvisionError:
    """An error that is none of the service's own, with an HTTP status."""
    error = ProvisionError(subject, fact, remedy)
    error.status = status
    error.kind = {404: "not-found", 405: "method-not-allowed", 422: "invalid"}.get(status, "failed")
    error.exit = {404: Exit.NOT_FOUND, 422: Exit.INVALID}.get(status, Exit.FAILED)
    return error


def origin_of_error(error: BaseException) -> str:
    """Where `error` was raised, as "function:line"."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else "an unknown place"
