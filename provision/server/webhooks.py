"""Tells receivers elsewhere what the audit log says, signed and in order. Nothing waits for them.

The log is the queue: all that is kept of a receiver is the number of the last entry that it has taken, so a kill loses
no event, and may repeat one. Its id is the same then.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import random
import secrets
import stat
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC
from pathlib import Path

from provision import writing
from provision.errors import Invalid, ProvisionError, Unavailable
from provision.secret import Secret
from provision.service.core import Core
from provision.service.events import body_of, kind_of
from provision.settings import Webhook
from provision.store.fields import Entry
from provision.store.following import Following
from provision.tls.context import for_client

LONGEST = 300.0
"""Seconds between two attempts at most; the first two are one second apart, and each pause is twice the one before."""

SECONDS = 10.0
"""How long a receiver may take for one event."""

TEST = "webhook-test"
"""The type of an event that nothing has caused."""

_AT_ONCE = 256
_OTHERS_MAY = 0o037
_KEY = range(24, 65)  # bytes, by Standard Webhooks
_log = logging.getLogger(__name__)


def signature(secret: Secret, name: str, sent: int, body: bytes) -> str:
    """What the header webhook-signature has (Standard Webhooks, symmetric): over id, Unix time and body."""
    signed = b"%s.%d.%s" % (name.encode(), sent, body)
    return "v1," + b64encode(hmac.digest(secret.reveal(), signed, hashlib.sha256)).decode()


def read_secret(path: Path) -> Secret:
    """The key in a file, base64 with or without "whsec_" before it. Raises Unavailable, and Invalid for other content
    or a file that others may read."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status, text = os.fstat(file.fileno()), file.read(1024)
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "check 'webhook.secret'") from None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & _OTHERS_MAY:
        raise Invalid(str(path), "is not a file that nobody else may read", f"chmod 600 {path}")
    try:
        key = b64decode(text.strip().removeprefix(b"whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) not in _KEY:
        remedy = "write 24 to 64 random bytes in base64: 'openssl rand -base64 32'"
        raise Invalid(str(path), "is not a valid key of a webhook", remedy)
    return Secret(key)


class Receiver:
    """One webhook of the settings. `work` is called again and again by one thread, `warnings` by any."""

    def __init__(self, webhook: Webhook, core: Core, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._webhook, self._core, self._monotonic = webhook, core, monotonic
        self._secret_file = core.settings.state / webhook.secret
        self._place = core.settings.state / "webhooks" / webhook.name
        self._taken, self._written = -1, -1
        self._waiting: list[Entry] = []
        self._following: Following | None = None
        self._failures, self._not_before = 0, 0.0
        self._trouble: ProvisionError | None = None
        self._lock = threading.Lock()
        # Set while somebody wants the lock: the work gives way after the event that it is telling.
        self._give_way = threading.Event()

    def warnings(self) -> list[ProvisionError]:
        """Why the receiver is not told at present."""
        return [self._trouble] if self._trouble is not None else []

    def work(self) -> None:
        """Tell it all that is new, until it is told, something is in the way, or it is to be told again of something.
        Raises nothing for that."""
        with self._lock:
            self._work()

    def test(self) -> None:
        """Send it an event that nothing has caused; raises ProvisionError unless it says that it has it."""
        now = self._core.clock().astimezone(UTC).isoformat()
        body = json.dumps({"type": TEST, "timestamp": now, "data": {}}).encode()
        self._send(f"evt_test_{secrets.token_hex(8)}", body, "the test event")

    def replay(self, first: int) -> None:
        """Go on with the entry `first`, at once, whatever was taken and however often it failed. Raises ProvisionError
        when that cannot be remembered."""
        self._give_way.set()
        with self._lock:
            self._give_way.clear()
            try:
                self._begin()
                self._taken, self._waiting = first - 1, []
                self._keep()
            except OSError as error:
                fact = f"files fail ({error.strerror})"
                raise Unavailable(f"webhook '{self._webhook.name}'", fact, "look at the disk") from None
            self._follow()
            self._failures, self._not_before = 0, 0.0

    def _work(self) -> None:
        if self._monotonic() < self._not_before or self._core.audit.known is None:
            return  # without a log there is no number to go on from
        try:
            self._begin()
            while not self._give_way.is_set() and (entry := self._next()):
                self._tell(entry)
                self._taken, self._failures = entry["seq"], 0
                self._waiting.pop(0)
                if self._trouble is not None:
                    _log.info("webhook '%s' takes events again", self._webhook.name)
                self._trouble = None
                self._keep()
            self._keep()
        except (ProvisionError, OSError) as error:
            self._failed(error)

    def _failed(self, error: ProvisionError | OSError) -> None:
        pause = min(LONGEST, 2.0**self._failures) * random.uniform(0.75, 1.0)
        self._failures, self._not_before = min(self._failures + 1, 16), self._monotonic() + pause
        if not isinstance(error, ProvisionError):
            error = Unavailable(f"webhook '{self._webhook.name}'", f"files fail ({error.strerror})", "look at the disk")
        if str(error) != str(self._trouble):
            _log.warning("%s", error)
        self._trouble = error

    def _begin(self) -> None:
        """Find where to go on: after what was taken last, or, for a new receiver, after what there is now."""
        if self._following is not None:
            return
        present = self._core.audit.sequence
        self._place.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            self._taken = self._written = int(self._place.read_bytes()[:20])
        except FileNotFoundError:
            self._taken = present
        except ValueError:
            raise Invalid(str(self._place), "is not the number of an entry", "write one, or remove the file") from None
        if self._taken > present:
            _log.warning("webhook '%s': the audit log has begun anew", self._webhook.name)
            self._taken = 0
        self._keep()
        self._follow()

    def _follow(self) -> None:
        if self._following is not None:
            self._following.close()
        self._following = Following(self._core.settings.state / "audit.log", self._taken)

    def _next(self) -> Entry | None:
        """The next entry that the receiver is to be told of."""
        while not self._waiting and self._following is not None:
            found = self._following.read(self._core.audit.sequence, _AT_ONCE)
            if not found:
                return None
            self._waiting = [entry for entry in found if self._wants(entry)]
            if not self._waiting:
                self._taken = found[-1]["seq"]
        return self._waiting[0] if self._waiting else None

    def _wants(self, entry: Entry) -> bool:
        kind = kind_of(entry)
        return kind is not None and (not self._webhook.events or kind in self._webhook.events)

    def _keep(self) -> None:
        """Remember on the disk what was taken."""
        if self._taken != self._written:
            writing.write(self._place, b"%d\n" % self._taken)
            self._written = self._taken

    def _tell(self, entry: Entry) -> None:
        """Send one event; raises ProvisionError unless the receiver says that it has it."""
        kind = kind_of(entry)
        body = body_of(kind or "", entry)
        # The number alone would come again in a log that begins anew.
        self._send(f"evt_{entry['seq']}_{hashlib.sha256(body).hexdigest()[:16]}", body, f"event {entry['seq']}")

    def _send(self, name: str, body: bytes, what: str) -> None:
        """Send it `what`; raises ProvisionError unless the receiver says that it has it."""
        sent, subject = int(self._core.clock().timestamp()), f"webhook '{self._webhook.name}'"
        headers = {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(sent),
            "webhook-signature": signature(read_secret(self._secret_file), name, sent, body),
        }
        try:
            ca = self._core.settings.state / self._webhook.ca if self._webhook.ca is not None else None
            status = asyncio.run(_post(self._webhook.url, body, headers, ca))
        except OSError as error:
            fact = f"{what} was not taken ({error})"
            raise Unavailable(subject, fact, "look at the receiver; it is tried again") from None
        if not 200 <= status < 300:
            raise Unavailable(subject, f"{what} was answered with {status}", "look at the receiver")


async def _post(url: str, body: bytes, headers: Mapping[str, str], ca: Path | None) -> int:
    """The status of the answer to an event, whose body is not read. Raises OSError for everything else, and after
    SECONDS whatever the receiver is doing."""
    import httpx  # most servers have no webhook

    try:
        async with (
            asyncio.timeout(SECONDS),
            # A connection for each: events are few, and the receiver's certificate may change.
            httpx.AsyncClient(verify=for_client(ca), timeout=SECONDS, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            return answer.status_code
    except TimeoutError:
        raise TimeoutError("no answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(type(error).__name__) from None  # its message may have the URL
