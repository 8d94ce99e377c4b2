"""The outermost layer of each application: clean paths in, no traceback and no stray exception out."""

from __future__ import annotations

import logging
import re

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provision.errors import ProvisionError
from provision.web.problems import internal_error, origin_of_error, response

log = logging.getLogger("provision.web")
_SLASHES = re.compile(r"/{2,}")


class Guard:
    """Wraps an application.

    Firmware asks for paths with doubled slashes (shim does), and they mean the single one; there are no redirects.
    An exception nobody foresaw is logged by type and place only: its message could hold a secret.
    """

    def __init__(self, app: Starlette, entry: ASGIApp | None = None) -> None:
        """`entry` is what requests go to when that is not `app` itself, which it then stands before."""
        self.app = app
        self._entry = entry or app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "//" in scope["path"]:
            scope = {**scope, "path": _SLASHES.sub("/", scope["path"])}
        started = finished = False

        async def watched(message: Message) -> None:
            nonlocal started, finished
            started = True
            await send(message)
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._entry(scope, receive, watched)
        except ConnectionAbortedError:
            raise  # the code that broke the answer off has said why
        except Exception as error:
            if scope["type"] != "http":
                raise
            if isinstance(error, ProvisionError) and not started:
                await response(error)(scope, receive, send)
                return
            name, where = type(error).__name__, origin_of_error(error)
            log.error("internal error: %s at %s while serving a %s request", name, where, scope["method"])
            if finished:
                return  # Starlette has answered by the handler for exceptions, and raises them on
            if started:
                # Only a broken connection tells the client that the body is not whole; uvicorn breaks it on this.
                raise ConnectionAbortedError("response cut short") from None
            await internal_error(error)(scope, receive, send)
