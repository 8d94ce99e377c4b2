"""Requests whose end is held back until something has happened, and a disk that waits, for tests of credentials."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from provision.web.guard import Guard
from tests.helpers.browser import Browser
from tests.helpers.site_fixture import Reply, Site

PEER = "192.0.2.7"


def scope_of(method: str, path: str, headers: dict[str, str], length: tuple[bytes, bytes]) -> dict[str, Any]:
    """A request over TLS whose body has that `length`."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "query_string": b"",
        "root_path": "",
        "headers": [length, *((name.encode(), value.encode()) for name, value in headers.items())],
        "client": (PEER, 1024),
        "server": ("192.0.2.1", 8443),
    }


def held(
    app: Guard, method: str, path: str, headers: dict[str, str], body: bytes, meanwhile: Callable[[], None]
) -> Reply:
    """A request whose body's last byte comes after what happens `meanwhile`."""
    parts, reply = [body[:-1], body[-1:]], Reply()

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()
        if len(parts) == 1:
            meanwhile()
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        reply.status = message.get("status", reply.status)
        reply.body += message.get("body", b"")

    length = (b"content-length", b"%d" % len(body))
    asyncio.run(app(scope_of(method, path, headers, length), receive, send))
    return reply


@contextmanager
def disk_that_waits(here: Site) -> Iterator[threading.Event]:
    """The audit log waits for its disk until the event is set, twenty seconds at most; whoever records waits, too."""
    freed, taken = threading.Event(), threading.Event()

    def sync() -> None:
        with here.service.core.audit._lock:
            taken.set()
            freed.wait(20)

    disk = threading.Thread(target=sync)
    disk.start()
    taken.wait(20)
    try:
        yield freed
    finally:
        freed.set()
        disk.join(20)


def sent(browser: Browser, **more: str) -> dict[str, str]:
    """The headers of a browser's request."""
    return {**browser.headers, "cookie": browser.cookie, **more}
