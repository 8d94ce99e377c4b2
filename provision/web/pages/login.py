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
from provision.web.negotiate import OFFER, channels, proof, token_of
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

    by_ticket = post(TICKET_LOGIN, partial(_log_in_by_ticket, pages))
    ways = [get(LOGIN, show), post(LOGIN, log_in), by_ticket, post("/logout", log_out)]
    return [*ways, get(STATIC + "{file}", static)]


def _form(pages: Pages, request: Request, status: int = 200, **problem: str) -> Response:
    """The forms to log in, with what was wrong with a token (`error`) or a ticket (`unknown`)."""
    values = {"error": None, "unknown": None, **problem}
    return pages.page(request, "login", status, **values, kerberos=pages.service.tickets is not None)


def _log_in_by_ticket(pages: Pages, request: Request) -> Response:
    tickets, peer = pages.service.tickets, request.client.host if request.client else ""
    if tickets is None:
        raise NotFound("page", "there is no login by Kerberos tickets here", "log in with a token")
    token = token_of(request.scope)
    try:
        if token is None:
            # Nothing was tried: a browser shows its ticket when it has been asked to.
            remedy = "run 'kinit', and allow this server in the browser's settings for Kerberos (Negotiate)"
            raise Unauthenticated("browser", "it has shown no Kerberos ticket", remedy)
        shown = tickets.accept(token, peer, channels(request.scope))
    except Unauthenticated as error:
        answer, header = _form(pages, request, error.status, unknown=str(error)), OFFER
    else:
        cookie = pages.service.sessions.begin_by(shown.ticket, peer, session.cookie_of(request.scope))
        answer, header = session.begin(to("/hosts"), cookie), proof(shown.answer)
    answer.raw_headers.append(header)
    return answer
