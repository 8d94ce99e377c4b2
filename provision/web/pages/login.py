"""Logging in by a token, logging out, and the static files: what is answered without a session, and what ends one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.errors import NotFound, Unauthenticated
from provision.web.pages import session
from provision.web.pages.asking import form_of, get, post, to
from provision.web.pages.rendering import STATIC, Pages


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    sessions, logins = pages.service.sessions, pages.service.logins
    # A thread of its own: failures wait for the audit log, and the others' threads serve boots, too.
    failing = ThreadPoolExecutor(1, "failed logins of browsers")

    def show(request: Request) -> Response:
        return pages.page(request, "login", error=None)

    async def log_in(request: Request) -> Response:
        shown, peer = form_of(request).get("token", "").strip().encode(), request.client.host if request.client else ""
        begin = partial(sessions.begin, shown, peer, session.cookie_of(request.scope))
        try:
            if logins.known(shown) is not None:
                cookie = await run_in_threadpool(begin)
            else:
                cookie = await asyncio.get_running_loop().run_in_executor(failing, begin)
        except Unauthenticated as error:
            return pages.page(request, "login", error.status, error="This token is not valid.")
        return session.begin(to("/hosts"), cookie)

    def log_out(request: Request) -> Response:
        sessions.end(session.cookie_of(request.scope))
        return session.end(to("/login"))

    def static(request: Request) -> Response:
        found = pages.static(request.path_params["file"])
        if found is None:
            raise NotFound("file", "is none of the pages'", "load the page anew")
        return found

    return [get("/login", show), post("/login", log_in), post("/logout", log_out), get(STATIC + "{file}", static)]
