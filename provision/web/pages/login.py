"""Logging in by a token or a ticket, logging out, and the static files: what is answered without a session, and what
ends one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.errors import NotFound, Unauthenticated
from provision.service.tickets import Shown
from provision.web.negotiate import OFFER, Checking, proof, token_of
from provision.web.pages import session
from provision.web.pages.asking import form_of, get, post, to
from provision.web.pages.rendering import STATIC, Pages
from provision.web.pages.session import LOGIN, TICKET_LOGIN


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    sessions, logins = pages.service.sessions, pages.service.logins
    # A thread of its own: failures wait for the audit log, and the others' threads serve boots, too.
    failing = ThreadPoolExecutor(1, "failed logins of browsers")

    def show(request: Request) -> Response:
        return _form(pages, request)

    async def log_in(request: Request) -> Response:
        shown, peer = form_of(request).get("token", "").strip().encode(), request.client.host if request.client else ""
        begin = partial(sessions.begin, shown, peer, session.cookie_of(request.scope))
        try:
            if logins.known(shown) is not None:
                cookie = await run_in_threadpool(begin)
            else:
                cookie = await asyncio.get_running_loop().run_in_executor(failing, begin)
        except Unauthenticated as error:
            return _form(pages, request, error.status, error="This token is not valid.")
        return session.begin(to("/hosts"), cookie)

    def log_out(request: Request) -> Response:
        sessions.end(session.cookie_of(request.scope))
        return session.end(to(LOGIN))

    def static(request: Request) -> Response:
        found = pages.static(request.path_params["file"])
        if found is None:
            raise NotFound("file", "is none of the pages'", "load the page anew")
        return found

    by_ticket = _ByTicket(pages)
    ways = [get(LOGIN, show), post(LOGIN, log_in), post(TICKET_LOGIN, by_ticket.log_in), post("/logout", log_out)]
    return [*ways, get(STATIC + "{file}", static)]


def _form(pages: Pages, request: Request, status: int = 200, **problem: str) -> Response:
    """The forms to log in, with what was wrong with a token (`error`) or a ticket (`unknown`)."""
    values = {"error": None, "unknown": None, **problem}
    return pages.page(request, "login", status, **values, kerberos=pages.service.tickets is not None)


class _ByTicket:
    """Logging in by a Kerberos ticket, where the settings have that."""

    def __init__(self, pages: Pages) -> None:
        self._pages, tickets = pages, pages.service.tickets
        self._checking = Checking(tickets) if tickets is not None else None

    async def log_in(self, request: Request) -> Response:
        peer = request.client.host if request.client else ""
        try:
            shown = await self._shown(request)
        except Unauthenticated as error:
            answer, header = _form(self._pages, request, error.status, unknown=str(error)), OFFER
        else:
            begin = partial(self._pages.service.sessions.begin_by, shown.ticket, peer, session.cookie_of(request.scope))
            answer, header = session.begin(to("/hosts"), await run_in_threadpool(begin)), proof(shown.answer)
        answer.raw_headers.append(header)
        return answer

    async def _shown(self, request: Request) -> Shown:
        if self._checking is None:
            raise NotFound("page", "there is no login by Kerberos tickets here", "log in with a token")
        token = token_of(request.scope)
        if token is None:
            # Nothing was tried: a browser shows its ticket when it has been asked to.
            remedy = "run 'kinit', and allow this server in the browser's settings for Kerberos (Negotiate)"
            raise Unauthenticated("browser", "it has shown no Kerberos ticket", remedy)
        return await self._checking.shown(request.scope, token)
