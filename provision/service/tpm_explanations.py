"""What a host's TPM is bound to, in words: which chain, which PCRs, and what the host says that it booted instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from provision import wrapping_rules
from provision.api import tpms as api
from provision.boot import Channel, ChannelKind, Medium
from provision.host import TpmUse
from provision.policy import HostState
from provision.principal import Principal
from provision.service.bindings import Bindings
from provision.service.core import Core
from provision.service.openings import WORDS, Openings, Report
from provision.service.proving import Proving
from provision.tpm import event_log, event_words
from provision.tpm.chains import KEY_STORE, Binding
from provision.wrapping_rules import Proof

_OTHER_KEYS = (
    "Secure Boot, the firmware's keys, or the certificate that verified the program has changed since the enrolment"
)


class TpmExplanations:
    """Explains. Nothing here changes anything, and nothing of it is secret."""

    def __init__(self, core: Core, bindings: Bindings, openings: Openings, proving: Proving) -> None:
        self._core, self._bindings, self._openings, self._proving = core, bindings, openings, proving

    def explain(self, name: str, principal: Principal) -> api.TpmExplanation:
        """What there is of what it takes to give the host its secrets for its TPM alone. Raises NotFound."""
        core, state = self._core, self._core.seen(name, principal)
        report, proof = self._openings.last(name), self._proving.last(name)
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
            online=state.host.tpm is TpmUse.ONLINE,
            proof=proof.text if proof is not None else None,
            proved=proof.at.isoformat() if proof is not None else None,
        )

    def _network(self, state: HostState, channel: Channel, report: Report | None) -> api.NetworkExplanation:
        # What is missing beside the proof, which is of each boot.
        proved = replace(state, proof=Proof())
        weighed, _ = self._core.payloads.weighed(proved, Medium.ENVELOPE, channel, self._core.clock())
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
            differs = _OTHER_KEYS if pcr == KEY_STORE else event_words.difference(found)
        yield api.PcrExplanation(
            pcr=pcr,
            expected=allowed[0].hex(),
            said=shown.hex() if shown is not None else None,
            same=shown in allowed if shown is not None else None,
            differs=differs,
        )
