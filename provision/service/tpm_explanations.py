"""What a host's TPM is bound to, in words: which chain, which PCRs, and what the host says that it booted instead."""

from __future__ import annotations

from collections.abc import Iterator

from provision import wrapping_rules
from provision.api import tpms as api
from provision.boot import Channel, ChannelKind, Medium
from provision.policy import HostState
from provision.principal import Principal
from provision.service.bindings import Bindings
from provision.service.core import Core
from provision.service.openings import WORDS, Openings, Report
from provision.tpm import event_log
from provision.tpm.chains import KEY_STORE, Binding
from provision.tpm.event_log import Event, EventType

_LONGEST = 160
_OTHER_KEYS = (
    "Secure Boot, the firmware's keys, or the certificate that verified the program has changed since the enrolment"
)


class TpmExplanations:
    """Explains. Nothing here changes anything, and nothing of it is secret."""

    def __init__(self, core: Core, bindings: Bindings, openings: Openings) -> None:
        self._core, self._bindings, self._openings = core, bindings, openings

    def explain(self, name: str, principal: Principal) -> api.TpmExplanation:
        """What there is of what it takes to give the host its secrets for its TPM alone. Raises NotFound."""
        core, state = self._core, self._core.seen(name, principal)
        report = self._openings.last(name)
        own = {i.network for i in state.host.interfaces.values()}
        channels = [
            Channel(ChannelKind(net.role), network, network, None, net.prefix)
            for network, net in core.site.networks.items()
            if net.prefix is not None and network in own
        ]
        return api.TpmExplanation(
            host=name,
            tpm=core.payloads.tpm(name),
            networks=tuple(self._network(state, channel, report) for channel in channels),
            last=f"{name} {WORDS[report.outcome]}" if report is not None else None,
            at=report.at.isoformat() if report is not None else None,
        )

    def _network(self, state: HostState, channel: Channel, report: Report | None) -> api.NetworkExplanation:
        weighed, _ = self._core.payloads.weighed(state, Medium.ENVELOPE, channel, self._core.clock())
        denial = wrapping_rules.denial(state.host.name, weighed.wrapping)
        found = self._bindings.chains(state, channel)
        lacks = denial or (wrapping_rules.unbound(state.host.name, found.unbound) if found.unbound else None)
        return api.NetworkExplanation(
            network=channel.network or "",
            missing=str(lacks) if lacks is not None else None,
            chains=tuple(_chain(binding, report) for binding in found.bindings),
        )


def _chain(binding: Binding, report: Report | None) -> api.ChainExplanation:
    chain = " ".join(filter(None, (binding.chain, binding.when)))
    return api.ChainExplanation(chain=chain, pcrs=tuple(_pcrs(binding, report)))


def _pcrs(binding: Binding, report: Report | None) -> Iterator[api.PcrExplanation]:
    said = event_log.replay(report.events) if report is not None and report.events else None
    for pcr in binding.pcrs:
        allowed = [values[pcr] for values in binding.branches]
        shown = said.get(pcr, bytes(32)) if said is not None else None
        differs = None
        if report is not None and shown is not None and shown not in allowed:
            found = event_log.differing(binding.expected, report.events, pcr)
            differs = _OTHER_KEYS if pcr == KEY_STORE else _difference(found)
        yield api.PcrExplanation(
            pcr=pcr,
            expected=allowed[0].hex(),
            said=shown.hex() if shown is not None else None,
            same=shown in allowed if shown is not None else None,
            differs=differs,
        )


def _difference(events: tuple[Event | None, Event | None] | None) -> str:
    """The first event that is another, as far as the log tells."""
    if events is None:
        return "every event is the same, but the value differs: something was measured after the log was read"
    expected, found = events
    if expected is None:
        return f"no further event was expected, but it measured {_named(found)}"
    if found is None:
        return f"{_named(expected)} was expected, but it measured nothing more"
    return f"{_named(expected)} was expected, but it measured {_named(found)}"


def _named(event: Event | None) -> str:
    """An event in words. What a firmware says of one is not to be believed, and harmless."""
    if event is None:
        return "nothing"
    text = "".join(chr(byte) if 32 <= byte < 127 else "" for byte in event.data)[:_LONGEST]
    if event.kind in (EventType.IPL, EventType.EFI_ACTION) and text:
        return f"'{text}' ({event.digest.hex()[:16]})"
    try:
        kind = EventType(event.kind).name.lower().replace("_", " ")
    except ValueError:
        kind = f"event {event.kind:#x}"
    return f"{kind} {event.digest.hex()[:16]}"
