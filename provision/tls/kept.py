"""The certificates that are in force: those of the files, as soon as the files are right.

A context is never changed, but another one takes its place, so a handshake has all of one or all of the other, and a
connection keeps what it began with.
"""

from __future__ import annotations

import logging
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from provision.clock import Clock
from provision.errors import ProvisionError, Unavailable
from provision.tls.context import Loaded, Pairs, load, stamps

SOON = timedelta(days=30)
"""So long before a certificate expires, operators are warned."""

_log = logging.getLogger(__name__)


class Certificates:
    """What the listener proves itself with. `look` is called by one thread, everything else by any."""

    def __init__(self, pairs: Pairs, clock: Clock, client: Path | None = None) -> None:
        """`client` is the file of the one certificate that clients have to show."""
        self._pairs, self._clock, self._client = tuple(pairs), clock, client
        self._loaded: Loaded | None = None
        self._problem: ProvisionError | None = None
        self._judged = self._seen = stamps(self._pairs, self._client)
        self._judge()

    @property
    def context(self) -> ssl.SSLContext | None:
        """The context for the next handshake; None when there never was a good pair."""
        return self._loaded.context if self._loaded else None

    @property
    def client(self) -> bytes | None:
        """The certificate that a client has to show, DER."""
        return self._loaded.client if self._loaded else None

    @property
    def expires(self) -> datetime | None:
        """Until when the certificates that are in force are valid."""
        return self._loaded.expires if self._loaded else None

    @property
    def problem(self) -> ProvisionError | None:
        """Why the files as they are now are not in force."""
        return self._problem

    def look(self) -> None:
        """Take the files when they have changed, and are as they were at the look before: whoever replaces a
        certificate and its key writes one after the other."""
        seen = stamps(self._pairs, self._client)
        settled, self._seen = seen == self._seen, seen
        if settled and seen != self._judged:
            self._judged = seen
            self._judge()

    def _judge(self) -> None:
        had = self._loaded is not None
        try:
            self._loaded, self._problem = load(self._pairs, self._client), None
        except ProvisionError as error:
            self._problem = error
            _log.error("%s: %s", "the old certificate stays in use" if had else "there is no certificate", error)
            return
        _log.info("certificates for TLS read; they are valid until %s", f"{self._loaded.expires:%Y-%m-%d}")

    def warnings(self) -> list[ProvisionError]:
        """What an operator should see to before clients refuse the server."""
        found, loaded = [], self._loaded
        if self._problem is not None:
            found.append(self._problem)
        if loaded is not None and loaded.expires - self._clock() < SOON:
            ends = "has expired" if loaded.expires <= self._clock() else "expires"
            when = f"{ends} on {loaded.expires:%Y-%m-%d}"
            if loaded.client is None:
                remedy = "replace its files, or run 'provision ca renew'"
                found.append(Unavailable("[api]", f"a certificate of the API {when}", remedy))
            else:
                remedy = "make another one on the proxy, and replace its file here"
                found.append(Unavailable("[api.proxy]", f"the proxy's certificate {when}", remedy))
        return found
