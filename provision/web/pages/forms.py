"""What comes by a form: only from a page of ours, and only with what that page was given.

Two things have to agree. The browser says that the request is from this very origin (Fetch Metadata, or RFC 6454), and
the form carries a value that is bound to the session: no other site can read it, nor another session use it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provision.errors import Conflict, Denied, Invalid, ProvisionError
from provision.service.sessions import Sessions
from provision.web.operator.authentication import Refuse
from provision.web.pages.session import LOGIN, TICKET_LOGIN, cookie_of

FORM = "provision.form"
"""Where the scope of a request has the fields of its form, by their names."""
KEY = "key"
"""The field that is bound to the session."""
ONCE = "once"
"""The field that is another in each copy of a form that would do something twice if it were sent twice."""

_SAFE = ("GET", "HEAD")
_MOST = 256
"""Fields of one form: an inventory of many files has two for each."""
_FAILED = 400
_COPY = re.compile("[0-9a-f]{1,32}")
_TYPE = re.compile(r"application/x-www-form-urlencoded(?: *;.*)?", re.IGNORECASE)
_REMEDY = "open the page anew, and send its form from there"


class Forms:
    """Reads forms before `app` runs; what is not from a page of ours, `refuse` answers. A body must be bounded
    already."""

    def __init__(self, app: ASGIApp, sessions: Sessions, refuse: Refuse) -> None:
        self._app, self._sessions, self._refuse = app, sessions, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in _SAFE:
            await self._app(scope, receive, send)
            return
        try:
            form = await self._read(Request(scope, receive))
        except ProvisionError as error:
            refused: Response = self._refuse(error)
            await refused(scope, receive, send)
            return
        await self._once({**scope, FORM: form}, receive, send, form.get(ONCE))

    async def _once(self, scope: Scope, receive: Receive, send: Send, copy: str | None) -> None:
        if copy is None:
            await self._app(scope, receive, send)
            return
        cookie, sessions = cookie_of(scope), self._sessions
        if not sessions.send(cookie, copy):
            again = Conflict("form", "was sent already, and is not done twice", "see what came of it; " + _REMEDY)
            await self._refuse(again)(scope, receive, send)
            return

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= _FAILED:
                sessions.unsend(cookie, copy)
            await send(message)

        await self._app(scope, receive, seen)

    async def _read(self, request: Request) -> Mapping[str, str]:
        if not from_here(request.headers):
            raise Denied("request", "was not sent by a page of this server", _REMEDY)
        if not _TYPE.fullmatch(request.headers.get("content-type", "")):
            raise Invalid("request", "is not a form", _REMEDY)
        form = parse(await request.body())
        if not _COPY.fullmatch(form.get(ONCE, "0")):
            raise Invalid("request", "its form cannot be read", _REMEDY)
        # As it is routed: a URL is put together of what a client sends.
        if request.scope["path"] in (LOGIN, TICKET_LOGIN):
            return form  # which belongs to no session yet
        wanted = self._sessions.form_key(cookie_of(request.scope))
        if not hmac.compare_digest(form.get(KEY, "").encode(), wanted.encode()):
            raise Denied("request", "does not belong to this session", _REMEDY)
        return form


def from_here(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that a request comes from a page of the very origin that it goes to.

    A page without a referrer has the origin "null" in some browsers; those say by Sec-Fetch-Site what they know.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    ours = origin is not None and origin == f"https://{headers.get('host', '')}"
    if site is None:
        return ours
    return site == "same-origin" and (ours or origin in (None, "null"))


def parse(body: bytes) -> Mapping[str, str]:
    """The fields of a form; raises Invalid for what is none, or has a field twice."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MOST,
        )
    except ValueError:
        raise Invalid("request", "its form cannot be read", _REMEDY) from None
    if len(dict(pairs)) < len(pairs):
        raise Invalid("request", "its form has a field twice", _REMEDY)
    return dict(pairs)
