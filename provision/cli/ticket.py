"""Asking a server by a Kerberos ticket (RFC 4559): a new proof with each request, and one of the server in turn."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Generator
from urllib.parse import urlsplit

import httpx

from provision import gssapi
from provision.errors import Denied, Unavailable

_ANSWER = re.compile(r"Negotiate +([A-Za-z0-9+/=]+)", re.IGNORECASE)
_CLOCK = "set the clock of this machine by the time service that the KDC uses"
_KINIT = "run 'kinit', and see 'klist'"
_NAME = "use the name in --server that the server's keytab is for, HTTP/NAME, and no IP address"
# What the library says, and the way out.
_WAYS_OUT = (
    (
        re.compile("cannot find mechanisms|No (Kerberos credentials|credentials cache)"),
        "you have no Kerberos ticket",
        _KINIT,
    ),
    (re.compile("Ticket expired"), "your Kerberos ticket has expired", _KINIT),
    (re.compile(gssapi.SKEW), "the clocks of this machine and of the KDC differ too much", _CLOCK),
    (re.compile("Server .* not found in Kerberos database"), "Kerberos knows no such server", _NAME),
    (
        re.compile("Cannot (contact any|find) KDC|Cannot resolve"),
        "no KDC of its realm can be reached",
        "check the network, and the realm in /etc/krb5.conf",
    ),
)


class ByTicket(httpx.Auth):
    """Shows the user's ticket to the server at `url`, and believes no good answer without its proof."""

    def __init__(self, url: str) -> None:
        self._url, self._host = url, urlsplit(url).hostname or ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """One request; raises Denied, Unavailable."""
        try:
            initiator = gssapi.Initiator(self._host)
        except gssapi.Failure as error:
            raise self._refusal(str(error)) from None
        with initiator:
            request.headers["authorization"] = f"Negotiate {base64.b64encode(initiator.token).decode()}"
            response = yield request
            if response.is_success:
                self._require_proof(initiator, response)

    def _require_proof(self, initiator: gssapi.Initiator, response: httpx.Response) -> None:
        answers = [found[1] for text in response.headers.get_list("www-authenticate") if (found := _whole(text))]
        try:
            initiator.finish(base64.b64decode(answers[0], validate=True) if len(answers) == 1 else b"")
        except (gssapi.Failure, binascii.Error):
            fact = "it has not proved by Kerberos who it is"
            raise Denied(self._url, fact, "ask its admin what answers at this address") from None

    def _refusal(self, said: str) -> Denied | Unavailable:
        for words, fact, remedy in _WAYS_OUT:
            if words.search(said):
                return Denied(self._url, fact, remedy)
        return Unavailable(self._url, f"Kerberos does not work ({said})", "see 'klist' and /etc/krb5.conf")


def _whole(text: str) -> re.Match[str] | None:
    return _ANSWER.fullmatch(text.strip())
