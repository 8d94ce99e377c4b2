"""What an operator asks of the audit log."""

from __future__ import annotations

import re
from collections.abc import Sequence

from provision.api.audit import AuditEntry, Verified
from provision.errors import Invalid
from provision.service.core import Core
from provision.store.chain import Head


class Auditing:
    """Reads and checks the audit log."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def entries(self, host: str | None, limit: int) -> list[AuditEntry]:
        """The newest `limit` entries, of one host or of all, oldest first."""
        return [AuditEntry.model_validate(entry) for entry in self._core.audit.entries(host, limit)]

    def verify(self, heads: Sequence[str] = ()) -> Verified:
        """The state of the log's chain; `heads` ("SEQ:CHAIN", as the journal has them) must be in it."""
        result = self._core.audit.verify([_head(text) for text in heads])
        return Verified(ok=result.ok, entries=result.entries, starts=result.starts, problems=result.problems)


def _head(text: str) -> Head:
    found = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", text)
    if found is None:
        raise Invalid("head", "is not one of the audit log", "write SEQ:CHAIN, as the journal has them")
    return Head(int(found[1]), found[2])
