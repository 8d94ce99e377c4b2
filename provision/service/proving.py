"""Hosts that prove each boot (`tpm: online`): a fresh nonce, a quote over it and the firmware's log, judged against
what this server has given. What is then released opens in this very start of the TPM alone.

Who asks is known by the kernel's neighbour table, as for every boot. Whoever else sends something in a host's name ends
nothing that the host has begun, but by beginning anew.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NoReturn

from provision import peer_rules, wrapping_rules
from provision.boot import Medium
from provision.denial import Denial
from provision.errors import Conflict, Denied, Gone, Invalid
from provision.host import TpmUse
from provision.policy import HostState
from provision.service.bindings import Bindings
from provision.service.core import Core
from provision.service.denial_limiter import opening
from provision.service.enrolling import NONCE
from provision.service.envelopes import Envelopes
from provision.service.origin import Origin
from provision.service.unfinished import Begun, Unfinished
from provision.tpm import judging, public, quoted_log, quotes
from provision.tpm.chains import Binding
from provision.tpm.public import Public
from provision.tpm.quoted_log import Confirmed, Quotation
from provision.wrapping_rules import Proof, Wrapping

QUOTED = judging.JUDGED
"""The PCRs that are quoted."""


@dataclass(frozen=True)
class Attempt:
    """What came of a host's last proof, in words."""

    text: str
    at: datetime


class Proving:
    """Takes proofs. The methods take milliseconds, and wait for the disk when something is released."""

    def __init__(
        self, core: Core, bindings: Bindings, envelopes: Envelopes, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._core, self._bindings, self.envelopes, self._random = core, bindings, envelopes, random
        self._unfinished = Unfinished[Begun]()
        self._last: dict[str, Attempt] = {}

    def begin(self, origin: Origin, attestation: bytes) -> bytes:
        """The nonce that the host's TPM is to quote QUOTED over, by the attestation key of its enrolment. Raises
        Denied."""
        state = self._host(origin)
        key = self._enrolled(origin, state, attestation)
        nonce = self._random(NONCE)
        begun = Begun(origin.requester.mac, self._core.clock(), key, nonce)
        self._unfinished.put(state.host.name, begun)
        return nonce

    def log(self, origin: Origin, at: int, part: bytes) -> None:
        """Take a part of the firmware's log, from byte `at` on. Raises Denied."""
        state = self._host(origin)
        if not self._unfinished.add(self._begun(origin, state), at, part, quoted_log.MOST):
            self._fail(origin, state, f"Its firmware's log has a gap, or more than {quoted_log.MOST >> 10} KiB")

    def prove(self, origin: Origin, shown: Quotation) -> bytes:
        """The envelope of the host, once its quote and its log show that it has booted what this server gave it. Raises
        Denied, and Gone when the host has just changed."""
        state, core = self._host(origin), self._core
        name, now = state.host.name, core.clock()
        found, start = self._judged(origin, state, shown)
        try:
            core.store.tpms.rise(name, start)
        except Conflict as error:
            remedy = f"If somebody has cleared it, run 'provision tpm remove {name}', and enrol it anew"
            self._fail(origin, state, f"Its TPM says that {error.fact}", remedy)
        answer = core.decide(
            replace(state, proof=Proof()),
            Medium.ENVELOPE,
            origin.channel,
            origin.requester,
            durable=True,
            counted=True,
        )
        if isinstance(answer, Denial):
            raise answer.error()
        core.witness()
        text = f"has booted by {found}, in start {start[0]}.{start[1]} of its TPM"
        said = {"time": now, "event": "tpm-proved", "host": name, "channel": str(origin.channel)}
        said |= {"mac": origin.requester.mac, "answer": "released", "reason": text}
        core.audit.record(said, bound=opening(str(origin.channel), name))
        self._last[name] = Attempt(f"{name} {text}", now)
        return self.envelopes.file(answer, state, (found,), start)

    def last(self, host: str) -> Attempt | None:
        """What came of the host's last proof; None when there was none in this process."""
        return self._last.get(host) if host in self._core.hosts else None

    def _host(self, origin: Origin) -> HostState:
        """The host that asks, when it is one that has to prove its boots. Raises Denied."""
        core, asks = self._core, origin.requester
        state = core.state_by_mac(asks.mac)
        if state is None:
            denial: Denial | None = Denial("unknown-host", "proof", "No host has this address", "Add its MAC to one")
        else:
            name = state.host.name
            denial = peer_rules.denial(name, state.host.macs, asks, origin.channel, "its own network")
            denial = denial or wrapping_rules.denial(name, Wrapping(core.payloads.tpm(name)))
            if denial is None and state.host.tpm is not TpmUse.ONLINE:
                fact = f"{name} gets its envelope without a proof ('tpm: offline')"
                denial = Denial("tpm-proof-failed", name, fact, "Ask for the envelope itself")
        if denial is not None or state is None:
            assert denial is not None  # noqa: S101  (no state: there is one)
            core.tally.refused(denial.rule, str(origin.channel))
            raise denial.error()
        return state

    def _enrolled(self, origin: Origin, state: HostState, area: bytes) -> Public:
        """The attestation key, when it is the one of the enrolment."""
        name = state.host.name
        try:
            key = public.parse(area, f"{name}: attestation key")
            quotes.require_attestation_key(key, f"{name}: attestation key")
        except Invalid as error:
            self._fail(origin, state, f"Its attestation key {error.fact}", error.remedy)
        if not self._is_of_enrolled(name, key):
            remedy = f"If the TPM was replaced, run 'provision tpm remove {name}', and enrol it anew"
            self._fail(origin, state, "Its TPM is not the one that is enrolled", remedy)
        return key

    def _is_of_enrolled(self, name: str, key: Public) -> bool:
        own = self._core.store.tpms.get(name)
        return own is not None and hmac.compare_digest(own.attestation, key.name)

    def _begun(self, origin: Origin, state: HostState) -> Begun:
        begun = self._unfinished.find(state.host.name, origin.requester.mac, self._core.clock())
        if begun is None:
            self._fail(origin, state, "It has begun no proof in the last minutes")
        return begun

    def _judged(self, origin: Origin, state: HostState, shown: Quotation) -> tuple[Binding, tuple[int, int]]:
        """The binding to what was booted, and how often the TPM was reset, and restarted since."""
        name, begun = state.host.name, self._begun(origin, state)
        confirmed = self._confirmed(origin, state, begun, shown)
        # A proof is good once. What is no proof ends nothing: it may be somebody else's.
        if not self._unfinished.end(name, begun):
            self._fail(origin, state, "It has begun no proof in the last minutes")
        if not self._is_of_enrolled(name, begun.attestation):
            self._fail(origin, state, "Its TPM is not the one that is enrolled")
        found = judging.judge(self._bindings.expected(state, origin.channel), confirmed)
        if isinstance(found, str):
            remedy = f"Boot {name} from this server or by its signed image, and see 'provision tpm explain {name}'"
            self._fail(origin, state, f"It has not booted what it was to boot: {found}", remedy)
        return found, (confirmed.quote.resets, confirmed.quote.restarts)

    def _confirmed(self, origin: Origin, state: HostState, begun: Begun, shown: Quotation) -> Confirmed:
        name = state.host.name
        try:
            return quoted_log.confirm(shown, begun.attestation, begun.nonce, bytes(begun.log), QUOTED, name)
        except Denied as error:
            self._fail(origin, state, error.fact, error.remedy)

    def _fail(self, origin: Origin, state: HostState, fact: str, remedy: str = quoted_log.AGAIN) -> NoReturn:
        """Refuse the proof, by policy, so that this is recorded as every decision; and tell the operator."""
        core, name, now = self._core, state.host.name, self._core.clock()
        refused = replace(state, proof=Proof((fact, remedy)))
        answer = core.decide(refused, Medium.ENVELOPE, origin.channel, origin.requester)
        self._last[name] = Attempt(f"{name} has not proved its boot: {fact}", now)
        core.alerts.raise_(name, "tpm-proof-failed", f"{name} has not proved its boot: {fact}. {remedy}.", now)
        if isinstance(answer, Denial):
            raise answer.error()
        raise Gone(name, "it has just changed", "ask again")
