"""What an operator asks of the audit log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from provision.api.audit import AuditEntry, Verified
from provision.errors import Denied, Invalid, Unavailable
from provision.principal import Principal, spelled
from provision.service.core import Core
from provision.store.chain import Head


class Auditing:
    """Reads and checks the audit log."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def entries(
        self, host: str | None, limit: int, principal: Principal, before: int | None = None
    ) -> list[AuditEntry]:
        """The newest `limit` entries, of one host or of all, oldest first; with `before` only those whose number is
        less. That they were read is an entry, too.

        Raises NotFound for a host that the principal does not see, and Denied for all hosts to whom sees some.
        """
        if principal.selector:
            if host is None:
                fact = f"sees only hosts with {spelled(principal.selector)}, and these are entries of all"
                raise Denied(principal.name, fact, "name a host", "selector")
            self._core.seen(host, principal)
        entries = [AuditEntry.model_validate(entry) for entry in self._core.audit.entries(host, limit, before)]
        self._was_read(principal, f"entries of {host}" if host else "entries")
        return entries

    def verify(self, principal: Principal, heads: Sequence[str] = ()) -> Verified:
        """The state of the log's chain; `heads` ("SEQ:CHAIN", as the journal has them) must be in it."""
        result = self._core.audit.verify([_head(text) for text in heads])
        self._was_read(principal, "chain")
        return Verified(ok=result.ok, entries=result.entries, starts=result.starts, problems=result.problems)

    def _was_read(self, principal: Principal, subject: str) -> None:
        """Record it, but not among the entries of a host; who reads again and again is counted."""
        core, fields = self._core, {"operator": principal.name, "subject": subject}
        # A log that cannot be written may still be looked at: what is wrong with it is in there.
        with suppress(Unavailable):
            core.audit.record({"time": core.clock(), "event": "audit-read", **fields})


def _head(text: str) -> Head:
    found = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", text)
    if found is None:
        raise Invalid("head", "is not one of the audit log", "write SEQ:CHAIN, as the journal has them")
    return Head(int(found[1]), found[2])
