"""Talking to the operator's application, on its socket or over TLS."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from provision.api.problem import MEDIA_TYPE, ProblemDocument
from provision.cli import output
from provision.cli.received import error_of, foreign, received
from provision.errors import Conflict, Denied, Invalid, ProvisionError, Unavailable
from provision.secret import Secret
from provision.settings import Settings

if TYPE_CHECKING:
    import ssl

    import httpx
    from pydantic import BaseModel

_BASE = "http://provision"
_NO_CONTENT = 204
_MAX_ANSWER, _MAX_TEXT = 64 << 20, 16 << 20
_HEADERS = {"accept-encoding": "identity"}
_BODY_SECONDS = 120.0
"""How long an answer may take to come, once it has begun to."""
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 600.0
_DEAD_SECONDS = 60
"""How long nothing may be heard of a server's machine. What a server has to do before it answers may take longer."""
_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD_SECONDS // 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD_SECONDS // 6),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_SECONDS * 1000),
]
_Shape = TypeVar("_Shape")


class Broken(Unavailable):
    """A connection that did not come about, or ended before the answer did."""


class Client:
    """Calls of the operator's application; every failure is a ProvisionError. Answers are bounded, and none is trusted:
    see `provision.cli.received`."""

    url: str | None = None
    """The server's URL; None for the service on this machine."""

    def __init__(self, http: httpx.Client, url: str | None = None) -> None:
        self._http, self.url = http, url

    def call(self, kind: type[_Shape], method: str, path: str, **arguments: Any) -> _Shape:
        """One request; its answer, which is a model of `provision.api` or a list of such. `body` is the request's."""
        with self.stream(method, path, **arguments) as answer:
            return received(kind, self._whole(answer, "application/json", _MAX_ANSWER))

    def remove(self, path: str) -> None:
        """Have something removed."""
        with self.stream("DELETE", path) as answer:
            if answer.status_code != _NO_CONTENT:
                raise foreign()

    def text(self, path: str) -> str:
        """The text at `path`, ASCII."""
        with self.stream("GET", path) as answer:
            data = self._whole(answer, "text/plain", _MAX_TEXT)
        if not data.isascii():
            raise foreign()
        return data.decode("ascii")

    @contextmanager
    def archive(self, path: str, **arguments: Any) -> Iterator[Iterator[bytes]]:
        """The pieces of the archive at `path`."""
        with self.stream("GET", path, **arguments) as answer:
            _require_type(answer, "application/x-tar")
            yield answer.iter_raw(1 << 20)

    @contextmanager
    def stream(
        self, method: str, path: str, *, body: BaseModel | Sequence[BaseModel] | None = None, **arguments: Any
    ) -> Iterator[httpx.Response]:
        """One request whose answer is read piece by piece, by `iter_raw`. `body` is sent as JSON."""
        import httpx

        if body is not None:
            # Not by pydantic: the path of a file may be no UTF-8, and the service says so, or shows it with a "?".
            data = json.dumps(body, default=output.members).encode()
            headers = {**arguments.get("headers", {}), "content-type": "application/json"}
            arguments |= {"content": data, "headers": headers}
        try:
            with self._http.stream(method, path, **arguments) as answer:
                if not answer.is_success:
                    self._refuse(answer)
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
            raise self._unsent(error) from None

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        reads = answer.request.method == "GET"
        if reads and answer.status_code in (HTTPStatus.GONE, HTTPStatus.PRECONDITION_FAILED):
            raise Conflict("medium", "it changed while it was being written", "run the command again")
        if answer.status_code == HTTPStatus.UNAUTHORIZED and self.url is not None:
            remedy = f"it may have expired: have a new one made, and run 'provision --server {self.url} login'"
            raise Denied(self.url, "it does not accept your token", remedy)
        if not answer.is_error:
            raise foreign()
        raise error_of(received(ProblemDocument, self._whole(answer, MEDIA_TYPE, _MAX_ANSWER)))

    def _unsent(self, error: httpx.HTTPError | httpx.InvalidURL | UnicodeEncodeError) -> ProvisionError:
        import httpx

        if not isinstance(error, httpx.HTTPError):
            return Invalid("provision", "an argument is too long, or not UTF-8", "names and labels are short and ASCII")
        begun = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        from provision.cli.trust import CHECK, reason_of, refusal

        fact = f"{'the connection broke' if begun else 'it does not answer'} ({reason_of(error)})"
        if self.url is None:
            return Broken("service", fact, "look at the service's log")
        return refusal(self.url, error) or Broken(self.url, fact, CHECK)

    @staticmethod
    def _whole(answer: httpx.Response, kind: str, most: int) -> bytes:
        _require_type(answer, kind)
        data, end = bytearray(), time.monotonic() + _BODY_SECONDS
        # As they come: a server that gives a byte now and then would not be noticed in pieces of one size.
        for piece in answer.iter_raw():
            data += piece
            if len(data) > most or time.monotonic() > end:
                raise foreign("gave an answer that does not end")
        return bytes(data)


def _require_type(answer: httpx.Response, kind: str) -> None:
    """Refuse an answer of another content type, and one that is packed: it could be of any size when it is unpacked."""
    found = answer.headers.get("content-type", "").partition(";")[0].strip()
    if found != kind or "content-encoding" in answer.headers:
        raise foreign()


@contextmanager
def running(settings: Settings) -> Iterator[Client | None]:
    """A client of the running service; None when there is none."""
    if not _answers(settings.socket):
        yield None
        return
    with at(settings.socket) as client:
        yield client


@contextmanager
def at(path: Path) -> Iterator[Client]:
    """A client of the application that listens on the socket at `path`."""
    import ssl

    import httpx

    # No TLS is spoken here. By itself the library reads all CAs of the web, which takes most of a command's time.
    transport = httpx.HTTPTransport(uds=str(path), verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    timeout = httpx.Timeout(_CONNECT_SECONDS, read=_READ_SECONDS, write=_READ_SECONDS)
    with httpx.Client(transport=transport, base_url=_BASE, timeout=timeout, headers=_HEADERS) as http:
        yield Client(http)


@contextmanager
def over_tls(url: str, trust: ssl.SSLContext, token: Secret | None) -> Iterator[Client]:
    """A client of the application at `url`, which hears the token once it has proved by `trust` who it is; without a
    token it is shown a Kerberos ticket.

    No redirect is followed, and no proxy asked.
    """
    import httpx

    transport = httpx.HTTPTransport(verify=trust, socket_options=_ALIVE)
    headers, auth = _HEADERS, None
    if token is not None:
        headers = _HEADERS | {"authorization": f"Bearer {token.reveal().decode('ascii')}"}
    else:
        from provision.cli.ticket import ByTicket

        auth = ByTicket(url)
    timeout = httpx.Timeout(_CONNECT_SECONDS, read=_READ_SECONDS, write=_READ_SECONDS)
    with httpx.Client(
        transport=transport,
        base_url=url,
        timeout=timeout,
        headers=headers,
        auth=auth,
        trust_env=False,
        follow_redirects=False,
    ) as http:
        yield Client(http, url)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except PermissionError:
            raise Unavailable(
                str(path), "you may not talk to the running service", "be root, or join its group"
            ) from None
        except OSError:
            return False
        return True
