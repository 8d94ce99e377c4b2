"""Which names a request may call the server by: a page elsewhere that makes a browser ask here has another Host.

Nothing is believed of `Forwarded` and its like: who asks is the peer of the connection.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from provision.errors import ProvisionError
from provision.web import problems
from provision.web.peer import plain

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9.-]{1,254}))(?::[0-9]{0,5})?", re.ASCII)


class ServedNames:
    """Lets requests through to `app` whose Host (RFC 9110 section 7.2) is one of `names`, or the address that the
    client has connected to; with any port, because a firewall may give the server another one. Answers all others."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        """`names` are host names in lower case, and addresses as Python writes them."""
        self._app, self._names = app, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("nothing but HTTP is served here")
        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send)
            return
        answer = problems.response(refused)
        answer.headers["connection"] = "close"  # what body there is, is not read
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> ProvisionError | None:
        given = [value for key, value in scope["headers"] if key == b"host"]
        name = host_of(given[0].decode("latin-1")) if len(given) == 1 else None
        if name is None:
            return problems.plain("request", "has no valid Host", 400, "")
        if name in self._names or name == plain(scope["server"][0]):
            return None
        return problems.plain(
            "request", "is for another server", 421, "use its address, or add this name to 'names' of [api]"
        )


def host_of(value: str) -> str | None:
    """The host of a Host header as names are compared, without its port; None when it has another form."""
    found = _HOST.fullmatch(value)
    if found is None:
        return None
    name = (found["six"] or found["name"]).lower().removesuffix(".")
    try:
        return str(ip_address(name))
    except ValueError:
        return None if found["six"] else name
