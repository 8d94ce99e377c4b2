"""HTTPS to a BMC, which is an untrusted peer: the one door to it.

Not by the library `sushy`: it follows redirects, reads answers of any size, has no limit for a whole request, cannot
pin a certificate, and comes with requests, urllib3, certifi, charset-normalizer, idna, python-dateutil, stevedore, pbr,
setuptools and tenacity. Not by `httpx` either: its limits are those of single reads, so a peer that sends a byte now
and then holds a request for ever. Here a timer cuts the socket.

Each request has a connection of its own, since BMCs are known to choke on those that stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.bmc.access import Access, context
from provision.errors import Unavailable

SECONDS = 60.0
"""How long a request may take from its first byte to its answer's last."""
MOST_BYTES = 1 << 20
MOST_REQUESTS = 500
"""Bytes of one answer, and requests of one piece of work."""

_CONNECT_SECONDS = 10.0
_PATH = re.compile(r"/redfish/v1[A-Za-z0-9/._~#$%&'()*+,:;=@-]{0,400}")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_]{1,40}(\.[A-Za-z0-9_]{1,40}){1,5}")  # DSP0266 section 9.11
_LONG = re.compile(rb"[A-Za-z0-9_]{16,}")  # what of a body may be the secret of a link


@dataclass(frozen=True)
class Reply:
    """What a BMC answered: a JSON object, empty when there was none, and the entity tag of what it shows."""

    status: int
    body: Mapping[str, Any]
    etag: str | None = None


class Refused(Unavailable):
    """The BMC answered a request with an error of this `status`; `message` is a Redfish message's id, or ""."""

    def __init__(self, subject: str, fact: str, remedy: str, answered: int, message: str = "") -> None:
        super().__init__(subject, fact, remedy)
        self.answered, self.message = answered, message


class Connection:
    """Requests to one BMC. Everything that goes wrong is Unavailable, in words of this program: nothing that the BMC
    wrote is repeated but the id of a Redfish message."""

    def __init__(self, name: str, access: Access, *, seconds: float = SECONDS) -> None:
        """`name` is the host's; a request has `seconds`."""
        self.subject = f"{name}: BMC"
        self._access, self._seconds, self._left = access, seconds, MOST_REQUESTS
        self._context = context(access.pin)

    def request(self, method: str, path: str, body: Any = None, etag: str | None = None) -> Reply:
        """One request; `body` goes as JSON, `etag` as If-Match. Raises Unavailable, which is Refused for an error."""
        self._left -= 1
        if self._left < 0:
            raise self._error(f"needs more than {MOST_REQUESTS} requests", "restart the BMC, and look at its firmware")
        if not _PATH.fullmatch(path) or "/../" in f"{path}/":
            raise self._error("names a resource by something that is not a path", "update its firmware")
        headers = {"Authorization": self._authorization(), "Accept": "application/json", "OData-Version": "4.0"}
        headers |= {"Connection": "close", "Accept-Encoding": "identity"}
        headers |= {"If-Match": etag} if etag else {}
        data = None if body is None else json.dumps(body).encode()
        headers |= {"Content-Type": "application/json"} if data is not None else {}
        status, raw, tag = self._exchange(method, path.partition("#")[0], data, headers)
        return self._judged(status, self._parsed(raw), tag, data or b"")

    def _authorization(self) -> str:
        user = self._access.user.encode()
        return "Basic " + b64encode(user + b":" + self._access.password.reveal()).decode()

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, str | None]:
        cut = threading.Event()
        try:
            with self._tls(cut) as sock:
                address = self._access.host, self._access.port
                connection = http.client.HTTPConnection(*address)
                connection.sock = sock
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                raw = answer.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error, cut.is_set()) from None
        if cut.is_set():
            raise self._failed(TimeoutError(), True)
        if len(raw) > MOST_BYTES:
            raise self._error("gave an answer that does not end", "restart the BMC, and look at its firmware")
        tag = answer.getheader("ETag")
        return answer.status, raw, tag if tag is not None and re.fullmatch(r'(W/)?"[ -~]{0,200}"', tag) else None

    @contextlib.contextmanager
    def _tls(self, cut: threading.Event) -> Iterator[ssl.SSLSocket]:
        """A socket to the BMC that this access is for. When time is over it is shut down, whatever it waits for."""
        host = self._access.host.strip("[]")
        raw = socket.create_connection((host, self._access.port), timeout=min(_CONNECT_SECONDS, self._seconds))
        with raw, raw.dup() as lever:
            raw.settimeout(self._seconds)
            timer = threading.Timer(self._seconds, _cut, (lever, cut))
            timer.daemon = True
            timer.start()
            try:
                with self._context.wrap_socket(raw, server_hostname=host) as sock:
                    self._require_pinned(sock)
                    yield sock
            finally:
                timer.cancel()
                timer.join()

    def _require_pinned(self, sock: ssl.SSLSocket) -> None:
        expected = self._access.pin.fingerprint
        if not expected:
            return  # verified by the context
        found = hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(found, expected):
            fact = f"has another certificate than it was set with (sha256 {found})"
            raise self._error(
                fact, "find out why; if it was replaced, run 'provision bmc set' with the new fingerprint"
            )

    @staticmethod
    def _parsed(raw: bytes) -> Mapping[str, Any] | None:
        """The JSON object of an answer, empty for none; None for anything else."""
        if not raw.strip():
            return {}
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _judged(self, status: int, body: Mapping[str, Any] | None, tag: str | None, sent: bytes) -> Reply:
        if 200 <= status < 300:
            if body is None:
                raise self._error("gave an answer that is not a JSON object", "update its firmware")
            own = body.get("@odata.etag")
            plain = own if isinstance(own, str) and re.fullmatch(r'(W/)?"[ -~]{0,200}"', own) else None
            return Reply(status, body, tag or plain)
        if 300 <= status < 400:
            fact = f"answered with a redirect ({status}), which is not followed"
            raise Refused(self.subject, fact, "set the address that it redirects to", status)
        if status in (401, 403):
            remedy = "check user, password and role, and set them with 'provision bmc set'"
            raise Refused(self.subject, f"does not let this user do that ({status})", remedy, status)
        message = _message(body or {}, [self._access.password.reveal(), *_LONG.findall(sent)])
        fact = f"answered {status} ({message})" if message else f"answered {status}"
        raise Refused(self.subject, fact, "look at the BMC's own log", status, message)

    def _failed(self, error: Exception, cut: bool) -> Unavailable:
        address = f"at {self._access.url}"
        if cut or isinstance(error, TimeoutError):
            return self._error(
                f"{address} gave no whole answer in {self._seconds:g} seconds", "try again, or restart it"
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            fact = f"{address} has a certificate that is not trusted ({error.verify_message})"
            return self._error(fact, "run 'provision bmc set' with --ca or --fingerprint")
        if isinstance(error, ssl.SSLError):
            return self._error(f"{address} does not speak TLS 1.2 or newer", "check address and port")
        if isinstance(error, http.client.HTTPException):
            return self._error(f"{address} answered what is not HTTP", "check address and port")
        reason = error.strerror if isinstance(error, OSError) and error.errno else "the connection broke"
        return self._error(f"{address} cannot be reached ({reason})", "check address, port and cables")

    def _error(self, fact: str, remedy: str) -> Unavailable:
        return Unavailable(self.subject, fact, remedy)


def _cut(lever: socket.socket, cut: threading.Event) -> None:
    cut.set()
    with contextlib.suppress(OSError):
        lever.shutdown(socket.SHUT_RDWR)


def _message(body: Mapping[str, Any], secrets: Iterable[bytes]) -> str:
    """The id of an error's first Redfish message, such as "Base.1.8.ActionNotSupported"; "" when it has none, or one
    that repeats one of the `secrets`."""
    error = body.get("error")
    told = error.get("@Message.ExtendedInfo") if isinstance(error, dict) else None
    first = told[0] if isinstance(told, list) and told else told
    ids = [first.get("MessageId") if isinstance(first, dict) else None]
    ids.append(error.get("code") if isinstance(error, dict) else None)
    found = next((one for one in ids if isinstance(one, str) and _MESSAGE_ID.fullmatch(one)), "")
    return "" if any(secret in found.encode() for secret in secrets) else found
