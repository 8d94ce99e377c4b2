"""Kerberos tickets: who has shown one, and what the settings say that they may.

A ticket is checked anew with each request: nothing of it belongs to a connection. What a client delegates is thrown
away. A failure says the same whatever is wrong, but where only somebody with a ticket of this service gets so far.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import BoundedSemaphore, Lock

from provision import gssapi, keytab
from provision.errors import Denied, Invalid, ProvisionError, Unauthenticated, Unavailable
from provision.principal import Principal
from provision.secret import Secret
from provision.service.core import Core
from provision.service.logins import Logins
from provision.settings import Kerberos
from provision.ticket import Ticket, granted

REPLAYS = "kerberos.replays"
"""The file in the state directory in which the library remembers which tokens were shown, as hashes."""
MOST = 48 * 1024
"""Bytes of a token: Active Directory's MaxTokenSize is at most 48,000."""
_AT_ONCE = 32
"""Tokens that are looked at, or wait for that, at a time; each takes less than a millisecond."""
_OTHERS_MAY = 0o037  # a group may read a key: distributions have one for that
_LARGEST = 1 << 20
_OLD = timedelta(days=365)
"""An age of keys at which operators hear of it; docs/alerts.yaml has the same. Keytabs do not say when they expire."""
_COMPLAIN_SECONDS = 10.0
_MOST_NAME = 200
_SUBJECT = "[api.kerberos]"
_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOENT)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_OF_THIS_MACHINE = frozenset(map(os.strerror, (*_NO_DISK, *_NO_DESCRIPTORS)))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """Whose ticket it is, and what proves to them in turn who the server is."""

    ticket: Ticket
    answer: bytes = field(repr=False)


@dataclass(frozen=True)
class Vain:
    """What was no good: what to say to whoever has shown it, and to the audit log."""

    answer: ProvisionError
    reason: str


@dataclass(frozen=True)
class _Keytab:
    """A keytab as it was found: why it is not to be used, else when the newest key of the service was written into it,
    if that says so."""

    problem: ProvisionError | None = None
    written: datetime | None = None


class Tickets:
    """Logins by tickets, as the settings have them. Thread-safe. `look` reads files; `failed` may wait for the audit
    log, which others hold while theirs is synced."""

    def __init__(self, core: Core, logins: Logins, kerberos: Kerberos) -> None:
        self._core, self._logins, self._grants = core, logins, kerberos.role
        state = core.settings.state.absolute()
        self._keytab, self._replays = state / kerberos.keytab, state / REPLAYS
        self._places, self._lock = BoundedSemaphore(_AT_ONCE), Lock()
        self._judged: tuple[tuple[int, ...] | None, _Keytab] | None = None
        self._complained = -_COMPLAIN_SECONDS

    def require_library(self) -> None:
        """Raise Unavailable where Kerberos cannot work at all."""
        try:
            gssapi.require()
        except Unavailable as error:
            remedy = "install it (Debian: libgssapi-krb5-2), or remove the block"
            raise Unavailable(_SUBJECT, f"{error.subject} is not installed", remedy) from None

    @contextmanager
    def place(self) -> Iterator[None]:
        """While somebody's token is looked at, or waits for it; raises Unavailable when too many do."""
        if not self._places.acquire(blocking=False):
            raise Unavailable("Kerberos tickets", "too many are being checked now", "try again")
        try:
            yield
        finally:
            self._places.release()

    def look(self, token: bytes, channels: Sequence[bytes]) -> Shown | Vain:
        """What this SPNEGO token is good for; `channels` are the bindings (RFC 5929) of the TLS connection, one
        for each certificate that it may have. Raises Unavailable, also while the keytab is not right."""
        self._logins.require_ground()
        if self._found().problem is not None:
            raise _cannot("see 'provision status' on the server")
        try:
            accepted = self._accepted(token, channels)
        except gssapi.Failure as error:
            self._complain(str(error))
            if _is_of_this_machine(str(error)):
                raise _cannot("see the service's log") from None
            return _refused(str(error))
        grant = granted(self._grants, accepted.name)
        if grant is None:
            return _unknown(accepted.name)
        expires = self._core.clock() + timedelta(seconds=accepted.seconds)
        return Shown(grant.to(accepted.name, expires), accepted.answer)

    def failed(self, vain: Vain, peer: str) -> ProvisionError:
        """Count and record what somebody at the address `peer` has shown in vain, and return what to say."""
        return self._logins.failed(peer, self._core.clock(), vain.answer, vain.reason)

    def accept(self, token: bytes, peer: str, channels: Sequence[bytes]) -> Shown:
        """All of that at once. Raises Unauthenticated, Denied for whom no role is meant, TooMany and Unavailable."""
        with self.place():
            found = self.look(token, channels)
        if isinstance(found, Vain):
            raise self.failed(found, peer)
        return found

    def still(self, ticket: Ticket, peer: str) -> Principal:
        """Who has shown the ticket a while ago; raises like `accept`."""
        self._logins.require_ground()
        if not ticket.is_good(self._core.clock()):
            raise self.failed(_refused("Ticket expired"), peer)
        return ticket.principal

    def warnings(self) -> list[ProvisionError]:
        """What an operator should see to."""
        found = self._found()
        if found.problem is not None:
            return [found.problem]
        if found.written is None or self._core.clock() - found.written < _OLD:
            return []
        fact = f"the newest key of {gssapi.SERVICE}/NAME is {(self._core.clock() - found.written).days} days old"
        remedy = "export new keys into it before the realm refuses these"
        return [ProvisionError(str(self._keytab), fact, remedy)]

    def written(self) -> datetime | None:
        """When the newest key of the service was written into the keytab; None where nobody knows."""
        return self._found().written

    def _accepted(self, token: bytes, channels: Sequence[bytes]) -> gssapi.Accepted:
        if len(token) > MOST:
            raise gssapi.Failure("the token is too large")
        first, *others = channels or (None,)
        try:
            return gssapi.accept(token, self._keytab, self._replays, first)
        except gssapi.Failure as error:
            # By then the token is remembered, so that it would be a replay; and nobody else can have shown it before.
            failure = error
        for channel in others:
            if not failure.is_bound_elsewhere:
                break
            try:
                return gssapi.accept(token, self._keytab, None, channel)
            except gssapi.Failure as error:
                failure = error
        raise failure

    def _complain(self, reason: str) -> None:
        """Tell an admin what the library says, now and then; a stranger can have it say something all the time."""
        with self._lock:
            now = time.monotonic()
            if now - self._complained < _COMPLAIN_SECONDS:
                return
            self._complained = now
        _log.warning("a Kerberos ticket was refused: %s", reason)

    def _found(self) -> _Keytab:
        """The keytab as it is now."""
        seen = _stamp(self._keytab)
        with self._lock:
            if self._judged is None or self._judged[0] != seen:
                self._judged = seen, _judged(self._keytab)
            return self._judged[1]


def _cannot(remedy: str) -> Unavailable:
    return Unavailable("Kerberos tickets", "cannot be checked now", remedy)


def _is_of_this_machine(reason: str) -> bool:
    """Whether a token was not taken because it cannot be remembered: that is nobody's doing who has shown it."""
    return reason.partition(" (filename: ")[0] in _OF_THIS_MACHINE


def _refused(reason: str) -> Vain:
    fact, remedy = "has no valid Kerberos ticket", "run 'kinit', or show a token"
    if reason == gssapi.SKEW:
        fact = "comes from a machine whose clock differs too much from the server's"
        remedy = "set the clock of your machine"
    return Vain(Unauthenticated("request", fact, remedy), "no valid Kerberos ticket")


def _unknown(name: str) -> Vain:
    shown = "".join(char if char.isascii() and char.isprintable() else "?" for char in name)[:_MOST_NAME]
    remedy = f"have an admin give it one in {_SUBJECT} of the settings"
    return Vain(Denied(shown, "has no role on this server", remedy, "role"), f"{shown} has no role")


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _judged(path: Path) -> _Keytab:
    try:
        entries = _keys(_content(path), path)
    except ProvisionError as error:
        _log.error("Kerberos tickets cannot be checked: %s", error)
        return _Keytab(problem=error)
    newest = max(entry.written for entry in entries)
    return _Keytab(written=datetime.fromtimestamp(newest, UTC) if newest else None)


def _content(path: Path) -> Secret:
    """What is in the keytab. Raises Unavailable when it cannot be read, or others may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unavailable(str(path), "is not a regular file", f"correct {_SUBJECT}")
            content = Secret(file.read(_LARGEST))
    except OSError as error:
        remedy = f"check {_SUBJECT}, and the file's owner"
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", remedy) from None
    if status.st_uid not in (0, os.geteuid()):
        raise Unavailable(str(path), f"the keytab belongs to user id {status.st_uid}", "give it to the service's user")
    if status.st_mode & _OTHERS_MAY:
        fact = f"others may read or write the keytab (mode {stat.S_IMODE(status.st_mode):04o})"
        raise Unavailable(str(path), fact, f"run 'chmod 600 {path}', and replace its keys if others have read them")
    return content


def _keys(content: Secret, path: Path) -> list[keytab.Entry]:
    """The keys of the service in a keytab, at least one. Raises Invalid for what is none, or has none."""
    try:
        entries = keytab.parse(content)
    except Invalid as error:
        raise Invalid(str(path), error.fact, error.remedy) from None
    own = [entry for entry in entries if entry.components[0] == gssapi.SERVICE]
    if not own:
        fact, name = f"has no key of {gssapi.SERVICE}/NAME", f"{gssapi.SERVICE}/NAME"
        raise Invalid(str(path), fact, f"export the keys of {name} into it, with the name that clients use")
    return own
