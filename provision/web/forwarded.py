"""Whom a reverse proxy asks for: believed of the one proxy that the settings name, on a listener of its own.

It is known by its address and by the certificate that it shows. Of the header that it sets only the last element
counts, which it has written itself: those before it are what a client, or a proxy before it, has said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from provision.errors import Denied, ProvisionError
from provision.web import problems
from provision.web.peer import plain
from provision.web.protocol import EXCHANGE

Headers = Sequence[tuple[bytes, bytes]]
"""Of an ASGI scope: names in lower case."""

_NODE = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15}))(?::[0-9]{1,5})?")
_PAIR = re.compile(r"""([A-Za-z]{1,16})=(?:"([^",;\\]{0,255})"|([^\s",;\\]{1,255}))""")
_REMEDY = "let the proxy say who asks, and that they speak TLS, as docs/deployment.md has it"


class Proxied:
    """Lets what the proxy asks for through to `app`, as from the client that it names; answers all others itself."""

    def __init__(
        self, app: ASGIApp, addresses: Collection[str], header: str, certificate: Callable[[], bytes | None]
    ) -> None:
        """The proxy connects from one of `addresses`, shows the `certificate` (DER), and writes `header`."""
        self._app, self._addresses = app, frozenset(addresses)
        self._client_of = _READERS[header]
        self._certificate = certificate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("nothing but HTTP is served here")
        try:
            self._require_proxy(scope)
            client = self._client_of(scope["headers"])
            if client is None:
                raise problems.plain("request", "does not say for whom it is, or not that they speak TLS", 400, _REMEDY)
        except ProvisionError as error:
            answer = problems.response(error)
            answer.headers["connection"] = "close"  # what body there is, is not read
            await answer(scope, receive, send)
            return
        await self._app({**scope, "client": (client, 0)}, receive, send)

    def _require_proxy(self, scope: Scope) -> None:
        """Raise Denied for whoever is not the proxy."""
        exchange, wanted = scope.get("extensions", {}).get(EXCHANGE), self._certificate()
        shown = exchange.certificate if exchange is not None else None
        if wanted is None or shown != wanted or plain(scope["client"][0]) not in self._addresses:
            raise Denied("request", "did not come from the proxy of the settings", "use the API's own port")


def by_x_forwarded(headers: Headers) -> str | None:
    """The client's address by the last element of X-Forwarded-For, when X-Forwarded-Proto is https, and is one."""
    chains, schemes = _values(headers, b"x-forwarded-for"), _values(headers, b"x-forwarded-proto")
    return _address(chains[-1].rpartition(",")[2].strip()) if chains and schemes == ["https"] else None


def by_forwarded(headers: Headers) -> str | None:
    """The client's address by the last element of Forwarded (RFC 7239), when its proto is https."""
    chains = _values(headers, b"forwarded")
    if not chains:
        return None
    before, _, last = chains[-1].rpartition(",")
    if before.count('"') % 2 or "\\" in before:
        return None  # the comma may be inside of a text
    pairs = [_PAIR.fullmatch(part.strip()) for part in last.split(";")]
    found = {pair[1].lower(): pair[2] if pair[2] is not None else pair[3] for pair in pairs if pair is not None}
    # A pair that has another form, or is there twice: somebody else may have written it.
    if len(found) != len(pairs) or found.get("proto") != "https":
        return None
    return _address(found.get("for", ""))


_READERS = {"x-forwarded-for": by_x_forwarded, "forwarded": by_forwarded}


def _values(headers: Headers, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def _address(node: str) -> str | None:
    """The address of a node as proxies write it, with or without a port; None for what is none."""
    found = _NODE.fullmatch(node)
    text = (found["six"] or found["four"]) if found else node
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return plain(str(address)) if "%" not in text and not address.is_unspecified else None
