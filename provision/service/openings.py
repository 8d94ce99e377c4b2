"""What hosts say became of their envelopes. Anybody at a host's address may say it, so nothing rests on it: it is for
the operator's eyes, and bounded."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from provision import peer_rules
from provision.denial import Denial
from provision.service.core import Core
from provision.service.denial_limiter import opening
from provision.service.origin import Origin
from provision.tpm.algorithms import Hash
from provision.tpm.event_log import Event

_MOST, _MOST_EVENTS = 64 << 10, 256


class Outcome(StrEnum):
    """What became of an envelope; the words are those of the host's own program."""

    OPENED = "opened"
    NO_TPM = "no-tpm"
    NOT_SIGNED = "not-signed"
    FOREIGN = "foreign"
    OLD = "old"
    OTHER_TPM = "other-tpm"
    REVOKED = "revoked"
    CHAIN = "chain"
    DAMAGED = "damaged"
    NOT_PLACED = "not-placed"


WORDS: Mapping[Outcome, str] = {
    Outcome.OPENED: "has opened its envelope",
    Outcome.NO_TPM: "has no TPM that its kernel knows, or one that does not do what it is asked",
    Outcome.NOT_SIGNED: "was given an envelope that this site has not signed",
    Outcome.FOREIGN: "was given the envelope of another host",
    Outcome.OLD: "was given an older envelope than it has opened before",
    Outcome.OTHER_TPM: "has another TPM than the one that its envelope is for",
    Outcome.REVOKED: "has booted an image whose approval was revoked",
    Outcome.CHAIN: "has booted in no chain that the site has approved",
    Outcome.DAMAGED: "was given an envelope whose content is damaged",
    Outcome.NOT_PLACED: "has opened its envelope, and could not put its files at their places",
}


@dataclass(frozen=True)
class Report:
    """What a host said last: the outcome, the number of the envelope (0: it had none), and what was measured into the
    PCRs that chains are bound to."""

    outcome: Outcome
    number: int
    at: datetime
    events: tuple[Event, ...] = field(default=(), repr=False)


class Openings:
    """Takes reports and keeps each host's last one in memory."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._last: dict[str, Report] = {}

    def take(self, origin: Origin, outcome: Outcome, number: int, packed: bytes, remembered: int | None = None) -> None:
        """A machine says what became of the envelope of the host whose NIC it has, and which number its TPM remembered
        before (0: none; None: it does not say). `packed` are events as JSON, packed by zlib, or nothing; what cannot be
        read says nothing. Raises Denied when the machine is no host."""
        core, asks, now = self._core, origin.requester, self._core.clock()
        state = core.state_by_mac(asks.mac)
        if state is None:
            denial: Denial | None = Denial("unknown-host", "envelope", "No host has this address", "Add its MAC to one")
        else:
            denial = peer_rules.denial(state.host.name, state.host.macs, asks, origin.channel, "its own network")
        if denial is not None or state is None:
            assert denial is not None  # noqa: S101  (no state: there is one)
            core.tally.refused(denial.rule, str(origin.channel))
            raise denial.error()
        name = state.host.name
        events = _events(packed)
        where = str(origin.channel)
        about = {"time": now, "host": name, "channel": where, "mac": asks.mac}
        said = {"event": "envelope-opened", "version": number, "answer": str(outcome)}
        core.audit.record(about | said, bound=opening(where, name))
        self._last[name] = Report(outcome, number, now, events)
        if outcome is not Outcome.OPENED:
            fact = f"{name} {WORDS[outcome]}. Look at its console, and at 'provision tpm explain {name}'."
            core.alerts.raise_(name, "envelope-not-opened", fact, now)
        self._look_at_memory(about, number if outcome is Outcome.OPENED else 0, remembered)

    def _look_at_memory(self, about: Mapping[str, object], opened: int, remembered: int | None) -> None:
        """Tell when the host's TPM remembers a lower number than it has opened; then know that it has `opened` one."""
        core, name = self._core, str(about["host"])
        tpms = core.store.tpms
        known = tpms.opened(name)
        if remembered is not None and remembered < known:
            reason = f"its TPM remembered {remembered}, after it had opened {known}"
            core.audit.record(
                {**about, "event": "tpm-cleared", "reason": reason}, bound=opening(str(about["channel"]), name)
            )
            core.alerts.raise_(name, "tpm-cleared", _cleared(name), core.clock())
        # Whoever says it in the host's name is believed in no number that was never given.
        if tpms.get(name) is not None and opened <= core.store.envelopes.newest(name):
            tpms.has_opened(name, opened)
            core.witness()

    def last(self, host: str) -> Report | None:
        """What the host said last; None when it has said nothing to this process."""
        return self._last.get(host) if host in self._core.hosts else None


def _cleared(name: str) -> str:
    return (
        f"{name}'s TPM has forgotten which envelopes it had opened:"
        " it was cleared, or somebody has changed its memory. "
        f"Old envelopes opened on it until {name} opened its newest one, those of revoked images, too. "
        f"If none of you has cleared it, run 'provision host compromised {name}'."
    )


def _events(packed: bytes) -> tuple[Event, ...]:
    try:
        said = json.loads(zlib.decompressobj().decompress(packed, _MOST)) if packed else []
        events = [Event(int(pcr), int(kind), bytes.fromhex(digest), text.encode()) for pcr, kind, digest, text in said]
    except (zlib.error, ValueError, TypeError, AttributeError, RecursionError):
        return ()
    whole = all(0 <= one.pcr < 24 and len(one.digest) == Hash.SHA256.size for one in events)
    return tuple(events) if whole and len(events) <= _MOST_EVENTS else ()
