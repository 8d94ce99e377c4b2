"""Whether a host that is booted by its BMC has come up, and by what that is known.

Most say so with a key of their own. One that starts the signed image has no key: it fetches its seed, and if it gets
its credentials by its TPM, it says what came of them. That is only its word, and all that rests on it is when its boot
ends and its virtual CD, which has no secret, is taken away.
"""

from __future__ import annotations

from datetime import datetime

from provision.api.status import HostStatus
from provision.errors import Unavailable
from provision.host import Chain
from provision.service.core import Core
from provision.service.openings import WORDS, Openings, Outcome
from provision.wrapping_rules import TpmStanding


class Arrivals:
    """Looks at what hosts have said and asked for."""

    def __init__(self, core: Core, openings: Openings) -> None:
        self._core, self._openings = core, openings

    def is_on_its_way(self, name: str, since: datetime) -> bool:
        """Whether the host runs, as far as is stored: it has said that it is up, or has begun to start the signed
        image."""
        boots = self._core.store.boots.of(name)
        if any(boot.up is not None and boot.up >= since for boot in boots):
            return True
        return self._is_unified(name) and any(boot.started >= since for boot in boots)

    def said(self, status: HostStatus, since: datetime) -> str:
        """By what it is known that the host has come up; "" while it has not. Raises Unavailable when its envelope was
        not opened."""
        core, name = self._core, status.host
        if any(boot.up is not None and boot.up >= since for boot in core.store.boots.of(name)):
            return "the host is up"
        if not self._is_unified(name):
            return ""
        report = self._openings.last(name)
        if report is not None and report.at >= since:
            if report.outcome is Outcome.OPENED:
                return "the host has opened its envelope"
            remedy = f"look at its console, and at 'provision tpm explain {name}'"
            raise Unavailable(name, WORDS[report.outcome], remedy)
        if self._gets_an_envelope(name) or status.started is None or datetime.fromisoformat(status.started) < since:
            return ""
        return "the host has its seed" if "seed" in status.parts else ""

    def _is_unified(self, name: str) -> bool:
        return self._core.state(name).host.chain is Chain.UKI

    def _gets_an_envelope(self, name: str) -> bool:
        """Without its TPM it goes on to enrol that, maybe, and says nothing."""
        core = self._core
        return bool(core.state(name).host.credentials) and core.payloads.tpm(name) is TpmStanding.ENROLLED
