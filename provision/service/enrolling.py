"""Enrolment as the host sees it: it shows its TPM, and proves that it has it.

Neither the MAC nor the address that a body might name is looked at: who asks is known by the kernel's neighbour table,
as for every boot. What is refused is a denial, and is recorded; what a TPM answers is compared in constant time.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from provision import enrolment_rules, policy
from provision.denial import Denial
from provision.enrolled_tpm import EnrolledTpm, EnrolmentWindow, KeyKind
from provision.enrolment_rules import Shown, Verdict
from provision.errors import Conflict, Denied, Invalid, ProvisionError
from provision.secret import Secret
from provision.service import tpm_roots
from provision.service.core import Core
from provision.service.denial_limiter import enrolling
from provision.service.origin import Origin
from provision.service.unfinished import Begun, Unfinished
from provision.tpm import endorsement, firmware, public, quoted_log, quotes, wrapping
from provision.tpm.algorithms import Curve, Hash
from provision.tpm.public import Public
from provision.tpm.quoted_log import AGAIN, Quotation

QUOTED = tuple(range(8))
"""The PCRs that are quoted: those that belong to the firmware."""
NONCE = 32
"""Bytes of a nonce."""


@dataclass(frozen=True)
class Claim:
    """What a host shows of its TPM: the public areas of both keys, and the maker's certificate (DER; empty: none)."""

    endorsement: bytes
    attestation: bytes
    certificate: bytes


@dataclass(frozen=True)
class Asked:
    """What its TPM has to do: activate the credential (with its seed), and quote QUOTED over the nonce."""

    credential: bytes
    seed: bytes
    nonce: bytes


@dataclass(frozen=True)
class Proof:
    """What it has done: the activated value, and the quote."""

    value: bytes = field(repr=False)
    quotation: Quotation


@dataclass(frozen=True)
class _Enrolment(Begun):
    """An enrolment that has begun. `value` is what the TPM must give back."""

    endorsement: Public
    certificate: str
    doubt: str
    value: Secret


@dataclass(frozen=True)
class _Booted:
    """What the firmware's log says, as `EnrolledTpm` has it."""

    pcr7: bytes
    firmware: str
    loader: str


class Enrolling:
    """Takes what hosts show. The methods take milliseconds, and wait for the disk when one is enrolled."""

    def __init__(self, core: Core, random: Callable[[int], bytes] = os.urandom) -> None:
        self._core, self._random = core, random
        self._unfinished = Unfinished[_Enrolment]()

    def is_wanted(self, host: str) -> bool:
        """Whether the host is to show its TPM now, and has not yet done so since its window was opened."""
        store, window = self._core.store, self._core.store.enrolments.window(host, self._core.clock())
        if window is None or store.tpms.get(host) is not None:
            return False
        return all(one.at < window.opened for one in store.tpms.pending(host))

    def begin(self, origin: Origin, claim: Claim) -> Asked:
        """What the host's TPM has to do for its keys to be believed. Raises Denied."""
        host, _ = self._allowed(origin)
        try:
            endorsed, attestation = _keys(claim, host)
        except Invalid as error:
            self._refuse(origin, host, Denial("tpm-keys", host, error.fact, error.remedy))
        certificate, doubt = self._certificate(claim.certificate, endorsed, host)
        asked = wrapping.challenge(endorsed, attestation.name, self._random)
        nonce, now = self._random(NONCE), self._core.clock()
        mac = origin.requester.mac
        begun = _Enrolment(mac, now, attestation, nonce, endorsed, certificate, doubt, asked.value)
        self._unfinished.put(host, begun)
        return Asked(asked.credential, asked.seed, nonce)

    def log(self, origin: Origin, at: int, part: bytes) -> None:
        """Take a part of the firmware's log, from byte `at` on, of what the host has begun. Raises Denied."""
        host, _ = self._allowed(origin)
        begun = self._unfinished.find(host, origin.requester.mac, self._core.clock())
        if begun is None:
            self._refuse(origin, host, _not_begun(host))
        if not self._unfinished.add(begun, at, part, quoted_log.MOST):
            fact = f"Its firmware's log has a gap, or more than {quoted_log.MOST >> 10} KiB"
            self._refuse(origin, host, Denial("tpm-log", host, fact, AGAIN))

    def prove(self, origin: Origin, proof: Proof) -> Verdict:
        """Believe what the host has begun, once its TPM has done all that was asked. Raises Denied."""
        host, window = self._allowed(origin)
        now = self._core.clock()
        begun = self._unfinished.find(host, origin.requester.mac, now)
        if begun is None:
            self._refuse(origin, host, _not_begun(host))
        # Who guesses ends nothing: the host itself may be about to answer.
        if not hmac.compare_digest(begun.value.reveal(), proof.value):
            fact = "Its two keys are not in one TPM: the challenge came back wrong"
            self._refuse(origin, host, Denial("tpm-challenge", host, fact, AGAIN))
        if not self._unfinished.end(host, begun):
            self._refuse(origin, host, _not_begun(host))
        booted = self._booted(origin, host, begun, proof)
        shown = Shown(endorsement.fingerprint(begun.endorsement), begun.certificate, begun.doubt)
        imported = self._core.store.enrolments.imported(host)
        verdict = enrolment_rules.judge(host, origin.channel, origin.requester, imported, shown)
        if isinstance(verdict, Denial):
            self._refuse(origin, host, verdict)
        self._keep(origin, window, _tpm(host, begun, shown, verdict, booted, window, now), verdict)
        return verdict

    def _allowed(self, origin: Origin) -> tuple[str, EnrolmentWindow]:
        """The host that asks, and its open window."""
        core, asks = self._core, origin.requester
        state = core.state_by_mac(asks.mac)
        host = state.host.name if state is not None else None
        window = core.store.enrolments.window(host, core.clock()) if host else None
        own = core.store.tpms.get(host) if host else None
        denial = enrolment_rules.may_show(host, origin.channel, asks, window, own)
        denial = denial or (policy.unsound(state) if state is not None else None)
        if denial is not None or host is None or window is None:
            assert denial is not None  # noqa: S101  (no host or no window: there is one)
            self._refuse(origin, host, denial)
        return host, window

    def _certificate(self, der: bytes, key: Public, host: str) -> tuple[str, str]:
        """Who vouches for the key, and else why nobody does who is believed."""
        if not der:
            return "", "its TPM has no certificate"
        try:
            roots = tpm_roots.load(self._core.settings)
            maker = endorsement.certified(der, key, roots.trusted, roots.others, self._core.clock(), host)
        except ProvisionError as error:
            return "", error.fact
        named = " ".join(filter(None, (maker.manufacturer, maker.model, maker.version)))
        return f"{named or 'without a name'} / {maker.root}", ""

    def _booted(self, origin: Origin, host: str, begun: _Enrolment, proof: Proof) -> _Booted:
        """What the machine has booted with, by a log that gives the values that were quoted."""
        log = bytes(begun.log)
        try:
            found = quoted_log.confirm(proof.quotation, begun.attestation, begun.nonce, log, QUOTED, host)
        except Denied as error:
            self._refuse(origin, host, Denial(error.rule, host, error.fact, error.remedy))
        return _Booted(found.values[7], firmware.describe(found.events), firmware.loader(found.events))

    def _keep(self, origin: Origin, window: EnrolmentWindow, tpm: EnrolledTpm, verdict: Verdict) -> None:
        """Record and store it. One that waits already is not written again while the same window is open: whoever
        repeats himself costs nothing."""
        core, store = self._core, self._core.store
        known = [one for one in store.tpms.pending(tpm.host) if one.fingerprint == tpm.fingerprint]
        if tpm.is_pending and any(one.at >= window.opened for one in known):
            return
        about = {"host": tpm.host, "mac": origin.requester.mac, "channel": str(origin.channel)}
        about |= {"kind": str(tpm.kind), "sha256": tpm.fingerprint, "reason": verdict.known or verdict.doubt}
        try:
            store.tpms.require_place(tpm)
            if tpm.is_pending:
                with core.act("tpm-pending", None, **about):
                    store.tpms.put(tpm)
            else:
                with core.act("tpm-enrolled", None, **about), store.database.lock:
                    store.tpms.put(tpm)
                    store.enrolments.close(tpm.host)
        except Conflict as error:
            self._refuse(origin, tpm.host, Denial("tpm-taken", tpm.host, error.fact, error.remedy))
        core.witness()

    def _refuse(self, origin: Origin, host: str | None, denial: Denial) -> NoReturn:
        core, asks, where = self._core, origin.requester, str(origin.channel)
        event = {"time": core.clock(), "event": "tpm-refused", "host": host, "channel": where, "answer": "denied"}
        event |= {"address": str(asks.address) if asks.address else None, "mac": asks.mac}
        event |= {"rule": denial.rule, "reason": str(denial)}
        core.audit.record(event, bound=enrolling(where))
        core.tally.refused(denial.rule, where)
        raise denial.error()


def _not_begun(host: str) -> Denial:
    return Denial("tpm-not-begun", host, f"{host} has begun no enrolment in the last minutes", AGAIN)


def _keys(claim: Claim, host: str) -> tuple[Public, Public]:
    """The endorsement and the attestation key, when they are such keys. Raises Invalid."""
    endorsed = public.parse(claim.endorsement, f"{host}: endorsement key")
    wrapping.require_endorsement_key(endorsed, f"{host}: endorsement key")
    _kind(endorsed, host)
    attestation = public.parse(claim.attestation, f"{host}: attestation key")
    quotes.require_attestation_key(attestation, f"{host}: attestation key")
    if {endorsed.name_hash, attestation.name_hash} != {Hash.SHA256}:
        raise Invalid(host, "has keys that are named by another hash than SHA-256", "enrol it with the image's agent")
    return endorsed, attestation


def _kind(key: Public, host: str) -> KeyKind:
    if key.curve is Curve.P256:
        return KeyKind.P256
    if key.curve is None and key.key.key_size == 2048:
        return KeyKind.RSA
    raise Invalid(host, "its endorsement key is neither RSA of 2048 bits nor on P-256", "show one of these")


def _tpm(
    host: str,
    begun: _Enrolment,
    shown: Shown,
    verdict: Verdict,
    booted: _Booted,
    window: EnrolmentWindow,
    now: datetime,
) -> EnrolledTpm:
    return EnrolledTpm(
        host=host,
        key=begun.endorsement.data,
        kind=_kind(begun.endorsement, host),
        fingerprint=shown.fingerprint,
        known=verdict.known,
        attestation=begun.attestation.name,
        pcr7=booted.pcr7,
        firmware=booted.firmware,
        at=now,
        actor=window.actor,
        loader=booted.loader,
    )
