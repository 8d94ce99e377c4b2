"""A host's ISO or disk image, downloaded by a browser: decided and sent exactly as by the API."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.web.operator.media import Download
from provision.web.pages.asking import name_in
from provision.web.pages.rendering import Pages
from provision.web.pages.session import cookie_of


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    download = Download(pages.service)

    async def send(request: Request) -> Response:
        name, medium = name_in(request), request.path_params["medium"]
        still = pages.service.sessions.standing(cookie_of(request.scope))
        return await asyncio.to_thread(download.answer, name, medium, request, still)

    return [Route("/hosts/{name}/media/{medium}", send, methods=["GET"], name="get a medium")]
