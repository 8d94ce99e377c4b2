"""What every answer of the pages says to browsers: load nothing from elsewhere, be in no frame, keep nothing."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Content Security Policy: no script or style in a page is run, and none from elsewhere."""

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CACHE = b"cache-control"


class Headers:
    """Adds them to each answer of `app`. Only what says otherwise itself may be kept by a browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"]
                kept = any(name.lower() == _CACHE for name, _ in given)
                message = {**message, "headers": [*given, *HEADERS, *([] if kept else [(_CACHE, b"no-store")])]}
            await send(message)

        await self._app(scope, receive, with_headers)
