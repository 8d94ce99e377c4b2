"""Who may have what, decided in one pure function before any secret is opened.

A `Release` is issued only here. It is bound to one host revision, medium, channel and moment of expiry, and it is
known by identity: a copy, a replacement or a look-alike is not a Release, and the seed builder takes no other.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NoReturn

from provision import link_rules, peer_rules, state_rules, window_rules, wrapping_rules
from provision.boot import Boot, Channel, ChannelKind, Copy, Medium, Payload, Requester, Role, Window
from provision.clock import TOLERANCE
from provision.denial import Denial
from provision.errors import Denied
from provision.host import Chain, Host, Netboot, Storage
from provision.site import Site
from provision.stored import StoredIdentity
from provision.wrapping_rules import NOTHING, Proof, Wrapping

RELEASE_LIFETIME = timedelta(minutes=15)


@dataclass(frozen=True)
class Ground:
    """What every decision stands on: why the store is not believed ("" when it is), and how far the clock went back."""

    distrust: str = ""
    behind: timedelta = timedelta(0)


SOUND = Ground()


@dataclass(frozen=True)
class HostState:
    """What policy looks at of a host: itself, its revision, its newest window, its charged boots from the network.

    `missing` names what its image needs and the server does not have ("its base image", "its credential 'keytab'"), and
    `exposed` those of its credentials that others may have.
    `heard` is when it last said that it is up; None when it never did, or said since that it goes down.
    `stored` is the identity on its own disk, with which its image can do.
    `identity` changes when anything that goes into the host's media does, whatever the boot; boots are pinned to it.
    `wrapping` is what there is of what it takes to give its secrets for its TPM alone, `proof` what it has just
    shown of its boot.
    """

    host: Host
    revision: str
    missing: tuple[str, ...] = ()
    identity: str = ""
    window: Window | None = None
    boots: tuple[Boot, ...] = ()
    ground: Ground = SOUND
    heard: datetime | None = None
    exposed: tuple[str, ...] = ()
    wrapping: Wrapping = NOTHING
    proof: Proof | None = None
    stored: StoredIdentity | None = None

    def is_plain(self, medium: Medium, channel: Channel, now: datetime) -> bool:
        """Whether the host gets its image alone; see `state_rules.is_plain`. Where an envelope is stored, the seed is
        measured."""
        mine = (boot for boot in self.boots if boot.seed_revision == self.identity)
        held = self.stored is not None and not self.stored.is_sealed
        return held and state_rules.is_plain(self.window, mine, medium, channel, now)


_ISSUED: weakref.WeakValueDictionary[int, Release] = weakref.WeakValueDictionary()
_ISSUER = object()


@dataclass(frozen=True, eq=False)
class Release:
    """A yes, bound to what was decided; only `decide` makes one. A `plain` one is for the image without a seed."""

    host: str
    revision: str
    medium: Medium
    channel: Channel
    expires: datetime
    payload: Payload
    confirmed: bool = False
    link: str | None = None
    plain: bool = False
    issuer: Any = field(repr=False, default=None)

    def __post_init__(self) -> None:
        if self.issuer is not _ISSUER:
            raise TypeError("a Release is issued by policy.decide only")
        object.__setattr__(self, "issuer", None)
        _ISSUED[id(self)] = self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Release is never pickled or copied")


def require_public(release: object, state: HostState, now: datetime) -> Release:
    """The release itself when policy issued it for this host revision, and it has not expired; raises Denied. It is
    enough for bytes without a secret."""
    host = state.host.name
    if not isinstance(release, Release) or _ISSUED.get(id(release)) is not release:
        raise Denied(host, "no release by policy", "ask policy.decide for one", "no-release")
    if (release.host, release.revision) != (host, state.revision):
        raise _other(release, host)
    if not release.expires - RELEASE_LIFETIME - TOLERANCE <= now < release.expires:
        raise Denied(host, "the release has expired", "ask again", "expired-release")
    return release


def require_wrapped(release: object, state: HostState, now: datetime) -> Release:
    """The same of an envelope, which is bound to no boot; raises Denied."""
    granted = require_public(release, state, now)
    if (granted.medium, granted.payload) != (Medium.ENVELOPE, Payload.WRAPPED):
        raise _other(granted, state.host.name)
    return granted


def require(release: object, state: HostState, boot: Boot | Copy, now: datetime, *, secret: bool = True) -> Release:
    """The same for the medium and network of its boot (or the link of its copy), to a machine that was confirmed to be
    the host where that can be; raises Denied. What is `secret` takes a release for secrets."""
    granted, host = require_public(release, state, now), state.host.name
    if granted.plain:
        raise Denied(host, "the release is for its image alone", f"open a window: 'provision window {host}'", "plain")
    # By a link, a copy is the same on whatever channel it goes out.
    network = (granted.channel.network or "") if granted.link is None else ""
    released = granted.host, granted.medium, network, granted.link
    link = boot.link if isinstance(boot, Copy) else None
    if released != (boot.host, boot.medium, boot.network, link) or (secret and granted.payload is not Payload.CLEAR):
        raise _other(granted, host)
    if boot.medium.from_network and granted.channel.kind is ChannelKind.MANAGEMENT and not granted.confirmed:
        raise Denied(host, "nothing has confirmed that it is at its address", "ask again", "not-confirmed")
    return granted


def _other(release: Release, host: str) -> Denied:
    fact = f"the release is for {release.host}'s {release.medium} on {release.channel}, or an earlier revision of it"
    return Denied(host, fact, "ask again", "other-release")


@dataclass(frozen=True)
class _Case:
    """Everything a rule may look at."""

    state: HostState
    site: Site
    medium: Medium
    channel: Channel
    requester: Requester
    payload: Payload
    now: datetime

    @property
    def name(self) -> str:
        return self.state.host.name

    @property
    def where(self) -> str:
        return f"network '{self.channel.network}'" if self.channel.network else "another role"

    @property
    def management(self) -> str:
        """The networks to boot on instead, as a phrase."""
        own = {i.network for i in self.state.host.interfaces.values()}
        names = [n for n, net in self.site.networks.items() if net.role is Role.MANAGEMENT and n in own]
        return " or ".join(f"'{n}'" for n in names) or "a management network"


Rule = Callable[[_Case], Denial | None]


def decide(
    state: HostState | None,
    site: Site,
    medium: Medium,
    channel: Channel,
    requester: Requester,
    payload: Payload,
    now: datetime,
) -> Release | Denial:
    """Decide one release. Pure: the same arguments give the same answer, and nothing is read or written.

    `state` is None when no host is known by the requester's MAC or by the name asked for. Rules are tried in a
    fixed order, and the first that objects is the answer.
    """
    if state is None:
        who = requester.mac or "this machine"
        return Denial(
            "unknown-host",
            who,
            f"No host with the address {who} is in the inventory",
            "Add its MAC to a host and run 'provision apply'",
        )
    case = _Case(state, site, medium, channel, requester, payload, now)
    if medium is Medium.ENVELOPE and payload is not Payload.WRAPPED:
        raise ValueError("an envelope has wrapped secrets, and nothing else")
    plain = payload is Payload.NONE and state.is_plain(medium, channel, now)
    for rule in _PLAIN_RULES if plain else _rules(medium):
        denial = rule(case)
        if denial is not None:
            return denial
    lifetime, confirmed = now + RELEASE_LIFETIME, requester.confirmed is True
    link = requester.bearer.link.id if requester.bearer else None
    return Release(state.host.name, state.revision, medium, channel, lifetime, payload, confirmed, link, plain, _ISSUER)


def _rules(medium: Medium) -> tuple[Rule, ...]:
    if medium is Medium.ENVELOPE:
        return _ENVELOPE_RULES
    return _NETWORK_RULES if medium.from_network else _DOWNLOAD_RULES


def _denial(rule: str, case: _Case, reason: str, remedy: str) -> Denial:
    return Denial(rule, case.name, reason, remedy)


def unsound(state: HostState) -> Denial | None:
    """Why nothing at all is released now; asked again when a boot is charged, which may be long after its release."""
    ground = state.ground
    return state_rules.unsound(state.host.name, ground.distrust, ground.behind) if ground is not SOUND else None


def exposed(state: HostState) -> Denial | None:
    """Why a host that was declared compromised gets nothing."""
    return state_rules.exposed(state.host.name, state.exposed)


def _sound(case: _Case) -> Denial | None:
    return unsound(case.state)


def _not_operator(case: _Case) -> Denial | None:
    asks = case.requester
    if case.channel.kind is not ChannelKind.OPERATOR and asks.principal is None and asks.bearer is None:
        return None
    return _denial(
        "not-a-boot",
        case,
        f"A {case.medium} boot is served to the host itself, not to an operator",
        f"Download the ISO instead: 'provision iso {case.name} -o FILE'",
    )


def _peer(case: _Case) -> Denial | None:
    return peer_rules.denial(case.name, case.state.host.macs, case.requester, case.channel, case.management)


def _never(case: _Case) -> Denial | None:
    if case.state.host.netboot is not Netboot.NEVER:
        return None
    return _denial(
        "netboot-never",
        case,
        f"{case.name} is set never to boot from the network",
        f"Set 'netboot: window' for {case.name}, or use its ISO: 'provision iso {case.name} -o FILE'",
    )


def _secrets_on_general(case: _Case) -> Denial | None:
    if case.channel.kind is ChannelKind.MANAGEMENT or case.payload is not Payload.CLEAR:
        return None
    return _denial(
        "secrets-on-general",
        case,
        f"{case.name}'s network-boot image carries its credentials in clear; {case.where} is general",
        f"Boot it on {case.management}, write its ISO: 'provision iso {case.name} -o FILE', or enrol its TPM:"
        f" 'provision enroll {case.name}'",
    )


def _unwrappable(case: _Case) -> Denial | None:
    if case.payload is not Payload.WRAPPED:
        return None
    return wrapping_rules.denial(case.name, case.state.wrapping)


def _is_public(case: _Case) -> bool:
    """Whether it is the image that is the same for all, or a seed without secrets: who asks too often learns nothing
    by it, and a host that boots them from the network does so at every boot."""
    return case.state.host.chain is Chain.UKI and case.payload is Payload.NONE


def _window(case: _Case) -> Denial | None:
    state = case.state
    if _is_public(case):
        return None
    return window_rules.closed(state.host, state.window, any(_goes_on(boot, case) for boot in state.boots), case.now)


def _goes_on(boot: Boot, case: _Case) -> bool:
    asked = case.requester.mac, case.medium, case.channel.network, case.state.identity
    return (boot.mac, boot.medium, boot.network, boot.seed_revision) == asked and boot.is_charged(case.now)


def _host_is_up(case: _Case) -> Denial | None:
    # What is wrapped is of no use to others; and a host that is told to ask again measures that.
    if _is_public(case) or case.payload is Payload.WRAPPED:
        return None
    limit = timedelta(seconds=case.site.policy.alive_seconds)
    return window_rules.is_up(case.name, case.state.heard, limit, case.state.window, case.now)


def _exposed(case: _Case) -> Denial | None:
    return exposed(case.state)


def _incomplete(case: _Case) -> Denial | None:
    return state_rules.incomplete(case.name, case.state.missing)


def _link_is_none(case: _Case) -> Denial | None:
    bearer = case.requester.bearer
    return link_rules.ended(bearer, case.now) if bearer is not None else None


def _link_is_not_here(case: _Case) -> Denial | None:
    bearer, local = case.requester.bearer, case.requester.local
    if bearer is None:
        return None
    return link_rules.in_clear(bearer, case.channel, local) or link_rules.withdrawn(bearer, case.state.identity)


def _needs_operator(case: _Case) -> Denial | None:
    bearer = case.requester.bearer
    if bearer is not None and (bearer.link.host, bearer.link.medium) == (case.name, case.medium):
        return None
    if case.channel.kind is ChannelKind.OPERATOR and case.requester.is_operator:
        return None
    return _denial(
        "operator-only",
        case,
        f"{case.name}'s {case.medium} image is given to operators only, not to {case.where}",
        f"As an operator: 'provision {case.medium} {case.name} -o FILE', on the server or with an operator's token",
    )


def _no_storage(case: _Case) -> Denial | None:
    if case.medium is not Medium.DISK or case.state.host.storage is not Storage.NONE:
        return None
    return _denial(
        "no-storage",
        case,
        f"{case.name} has 'storage: none', so no disk could take its image",
        f"Write its ISO: 'provision iso {case.name} -o FILE', or set 'storage: persistent'",
    )


_NETWORK_RULES: tuple[Rule, ...] = (
    _sound,
    _not_operator,
    _peer,
    _never,
    _secrets_on_general,
    _unwrappable,
    _exposed,
    _incomplete,
    _window,
    _host_is_up,
)
# It opens in one TPM and in approved chains alone: no window bounds that any further, and whoever asks in the name of a
# host that is up has nothing of it.
_ENVELOPE_RULES: tuple[Rule, ...] = (
    _sound,
    _not_operator,
    _peer,
    _unwrappable,
    _exposed,
    _incomplete,
)
# The image alone has no secret, so it matters neither how often it is read nor by whom on the host.
_PLAIN_RULES = tuple(rule for rule in _NETWORK_RULES if rule not in (_window, _host_is_up))
_DOWNLOAD_RULES: tuple[Rule, ...] = (
    # Before all others: a link that has ended says no more than one that never was.
    _link_is_none,
    _sound,
    _needs_operator,
    _link_is_not_here,
    _no_storage,
    _exposed,
    _incomplete,
)
