"""How far every boot has come, and what policy would say to the next one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

from provision.api import status as api
from provision.boot import OPERATOR, Boot, Channel, ChannelKind, Medium, Payload, Requester, Window
from provision.denial import Denial
from provision.host import Chain, Host, TpmUse
from provision.link_rules import imagined
from provision.policy import HostState, decide, exposed
from provision.principal import Principal
from provision.service import enrolment
from provision.service.core import Core
from provision.service.expiries import Expiries
from provision.service.identities import Judge, shown_identity
from provision.service.listeners import Listening
from provision.service.progress import Progress, Tracker
from provision.service.updates import shown_slots
from provision.service.windows import shown
from provision.wrapping_rules import Proof, TpmStanding

_SIGNED = "It gets the site's signed image and a seed without secrets; credentials come in its envelope"
_PROVED = "It gets its envelope only with a proof of its boot ('tpm: online'), which is judged when it comes"
_STORED = "An envelope is on its disk, too, which it opens when no server answers"
_NO_AGENT = (
    "Its base image has no agent that reports that the host is up, so anything that runs on the booted host, guests"
    " included, may get its seed from this server"
)
Unsigned = Callable[[Host], Denial | None]
"""Says why a host that boots the signed image of its base cannot: nobody has signed it."""


class Reports:
    """What operators are told of hosts, networks and the service. Nothing here changes anything."""

    def __init__(self, core: Core, tracker: Tracker, is_current: Judge, unsigned: Unsigned) -> None:
        self._core, self._tracker, self._expiries = core, tracker, Expiries(core)
        self._is_current, self._unsigned = is_current, unsigned

    def status(self, principal: Principal, name: str | None = None) -> api.Status:
        """How far every host (or one) has come that the principal sees, and which unknown machines asked; raises
        NotFound."""
        names = [host.name for host in self._core.visible(principal)]
        if name:
            names = [self._core.seen(name, principal).host.name]
        return api.Status(
            hosts=self.of_hosts(names),
            unknown=() if name else self.unknown(principal),
            warnings=tuple(map(str, (*self._core.warnings(), *self._expiries.warnings(principal)))),
            problems=tuple(self._core.footing.problems()),
        )

    def unknown(self, principal: Principal) -> tuple[api.UnknownMachine, ...]:
        """The unknown machines that asked, the latest first; none for whom sees some hosts only."""
        # Whose an unknown machine is, nobody can say.
        seen = [] if principal.selector else self._core.store.sightings.all()
        return tuple(
            api.UnknownMachine(mac=u.mac, uuid=u.uuid, network=u.network, last=u.last.isoformat(), count=u.count)
            for u in seen
        )

    def of_hosts(self, names: Iterable[str]) -> tuple[api.HostStatus, ...]:
        """How far these hosts have come, which must be there and be whoever asks's to see."""
        followed = self._tracker.all()
        return tuple(self._host(name, followed.get(name)) for name in names)

    def _host(self, name: str, progress: Progress | None) -> api.HostStatus:
        state, now = self._core.state(name), self._core.clock()
        boots = self._core.store.boots.of(name) if progress is None else [progress.boot]
        seen = (b for b in boots if b.medium.from_network or b.up)
        boot = max(seen, key=lambda b: b.up or b.charged or b.started, default=None)
        return api.HostStatus(
            host=name,
            stage=progress.stage if progress else _stage(boot),
            parts={part: round(100 * value) for part, value in progress.parts.items()} if progress else {},
            medium=boot.medium if boot else None,
            mac=boot.mac if boot else None,
            network=boot.network if boot else None,
            started=_iso(boot.started if boot else None),
            seen=_iso(progress.seen if progress else (boot.charged or boot.started) if boot else None),
            up=_iso(boot.up if boot else None),
            window=shown(state.window, now) if state.window else None,
            heard=_iso(state.heard),
            alerts=(*self._exposure(state), *enrolment.alerts(self._core, name), *self._alerts(name, now)),
            stored=shown_identity(state, self._is_current),
            slots=shown_slots(self._core, name),
        )

    def _exposure(self, state: HostState) -> Iterator[api.Alert]:
        """What is to be done with a host that was declared compromised, for as long as it is."""
        known = self._core.store.snapshot.compromised.get(state.host.name)
        if known is not None and (denial := exposed(state)):
            declared = known.declared.isoformat()
            yield api.Alert(event=denial.rule, text=str(denial), count=len(state.exposed), last=declared)

    def _alerts(self, name: str, now: datetime) -> Iterator[api.Alert]:
        for alert in self._core.alerts.of(name, now):
            yield api.Alert(event=alert.event, text=alert.text, count=alert.count, last=alert.last.isoformat())

    def explain(self, name: str, principal: Principal) -> list[api.Explanation]:
        """For every medium and channel: whether policy would release it, and if not why and what to do.

        Downloads are explained to the `principal` who asks.
        """
        return self._explain(self._core.seen(name, principal), principal)

    def explain_with_window(
        self, name: str, principal: Principal, media: Collection[Medium] = tuple(Medium)
    ) -> list[api.Explanation]:
        """The same of some `media` as if a window of the host had just been opened."""
        state, now = self._core.seen(name, principal), self._core.clock()
        opened = Window(0, now + timedelta(hours=1), 1, 0, opened=now)
        return self._explain(replace(state, window=opened), principal, media)

    def _explain(
        self, state: HostState, principal: Principal, media: Collection[Medium] = tuple(Medium)
    ) -> list[api.Explanation]:
        files = [medium for medium in media if not medium.from_network]
        downloads = [self._explain_one(state, medium, OPERATOR, principal) for medium in files]
        if self._core.settings.api is not None:
            downloads += [self._explain_one(state, medium, OPERATOR, None) for medium in files]
        links = {listen.network for listen in self._core.settings.listen if listen.links}
        networks = [
            Channel(ChannelKind(net.role), network, network, None, net.prefix, network in links)
            for network, net in self._core.site.networks.items()
            if net.prefix is not None  # nothing is served on the others
        ]
        # Where nobody knows a TPM of the host, nobody asks for envelopes.
        wrapped = self._core.payloads.tpm(state.host.name) is not TpmStanding.UNKNOWN
        asked = [medium for medium in media if medium is not Medium.ENVELOPE or wrapped]
        rows = [self._explain_one(state, medium, channel, None) for channel in networks for medium in asked]
        return downloads + rows

    def _explain_one(
        self, state: HostState, medium: Medium, channel: Channel, principal: Principal | None
    ) -> api.Explanation:
        """Downloads that no `principal` asks for are explained to whoever has a link."""
        core = self._core
        first = IPv4Address(int(channel.prefix.network_address) + 1) if channel.prefix is not None else IPv4Address(0)
        if principal is not None:
            requester = Requester(principal=principal)
        elif medium.from_network:
            requester = Requester(address=first, mac=next(iter(state.host.macs), None))
        else:
            bearer = imagined(state.host.name, medium, state.identity, core.clock(), first)
            requester = Requester(bearer=bearer)
        now = core.clock()
        online = medium is Medium.ENVELOPE and state.host.tpm is TpmUse.ONLINE
        state, payload = core.payloads.weighed(replace(state, proof=Proof()), medium, channel, now)
        # Only what is so: members that say nothing are not on the wire.
        said: dict[str, Any] = {"by": "link"} if requester.bearer is not None else {}
        signed = medium is Medium.HTTP_BOOT and state.host.chain is Chain.UKI
        answer = decide(state, core.site, medium, channel, requester, Payload.NONE if signed else payload, now)
        if signed and not isinstance(answer, Denial):
            answer = self._unsigned(state.host) or answer
            said["caution"] = _SIGNED
        if isinstance(answer, Denial):
            said |= {"rule": answer.rule, "reason": answer.reason, "remedy": answer.remedy}
        if medium.from_network and channel.kind is ChannelKind.MANAGEMENT and not core.has_agent(state.host):
            said["caution"] = _NO_AGENT
        if medium is Medium.ENVELOPE and state.stored is not None and state.stored.is_sealed:
            said["caution"] = _STORED
        if online:
            said["caution"] = _PROVED
        allowed = not isinstance(answer, Denial)
        if not isinstance(answer, Denial) and answer.plain:
            said["plain"] = True
        if state.host.is_given_signed(medium):
            said["signed"] = True
        return api.Explanation(medium=medium, channel=str(channel), allowed=allowed, **said)

    def health(self, listeners: Mapping[str, Listening], principal: Principal) -> api.Health:
        """What is served: each listener's network and state, and how many hosts the principal sees."""
        problems = tuple(self._core.footing.problems())
        warnings = tuple(str(warning) for warning in self._core.warnings())
        states = {name: state.text for name, state in listeners.items()}
        hosts = sum(1 for _ in self._core.visible(principal))
        return api.Health(hosts=hosts, listeners=states, problems=problems, warnings=warnings)


def _stage(boot: Boot | None) -> str:
    """How far a boot has come of which only the record is left."""
    return "up" if boot and boot.up else "seed" if boot and boot.charged else "nothing"


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
