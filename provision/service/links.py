"""Links: an operator makes one, and whoever has its secret gets one medium by it.

The secret is with whom the link was made for, and nowhere else: what is stored, logged and said is the link's id.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from provision import link as secret_links
from provision import link_rules, policy
from provision.api import links as api
from provision.boot import DOWNLOADS, OPERATOR, Bearer, Channel, Copy, DiskFormat, Link, Medium, Requester
from provision.denial import Denial
from provision.errors import Conflict, Gone, NotFound, ProvisionError
from provision.media.layout import MediumLayout
from provision.media.plan import Plan
from provision.policy import HostState, Release
from provision.principal import Principal
from provision.secret import Secret
from provision.service.core import Core
from provision.service.denial_limiter import guessing
from provision.service.guesses import Guesses
from provision.service.link_reads import LinkReads, Read, read
from provision.service.media_builder import MediaBuilder
from provision.service.standing import is_link_of_somebody, standing
from provision.store.links import Wanted


@dataclass(frozen=True)
class Asked:
    """A request by link: where it came in, from which address, and whether that is one of the server's own."""

    channel: Channel
    address: IPv4Address | IPv6Address
    local: bool = False


@dataclass(frozen=True)
class Taken:
    """What a link gives to one request: the medium, `check`, which raises Gone when no further byte of it may go, and
    `seen`, which is told of the bytes that have gone up to now, from which to which."""

    plan: Plan
    check: Callable[[], None]
    seen: Callable[[int, int], None]


class Links:
    """Makes, lists, revokes and honours links."""

    def __init__(self, core: Core, builder: MediaBuilder) -> None:
        self._core, self._builder, self._guesses = core, builder, Guesses()
        self.reads = LinkReads()

    # For operators

    def make(self, name: str, order: api.MakeLink, principal: Principal) -> api.MadeLink:
        """A new link to the host's medium. Raises NotFound, Invalid, Denied when policy would give nothing by it, and
        Conflict when this server gives nothing to links, the host has too many, or its base has no disk in that
        format."""
        core, state, medium = self._core, self._core.seen(name, principal), order.medium.medium
        bases, copy = self._allowed(state, medium), secrets.token_hex(16)
        if medium is Medium.DISK and not state.host.is_given_signed(medium):
            core.base_of(state.host).disk_as(order.format)
        revision = self._builder.revision(state, OPERATOR, Copy(name, medium, copy))
        wanted = Wanted(medium, state.identity, revision, copy, order.minutes, order.uses, order.address)
        wanted.require(name)
        secret = secret_links.new(bases)
        limits: dict[str, str | int | None] = {"minutes": wanted.minutes, "uses": wanted.uses}
        about = {"host": name, "medium": str(medium), "link": core.store.links.id_of(secret), **limits}
        with (
            core.act("link-made", principal, **about, address=str(order.address) if order.address else None),
            standing(core.store, principal),
        ):
            link = core.store.links.make(name, secret, wanted, core.clock(), principal)
        core.witness()
        path = secret_links.path(secret, _suffix(medium, order.format))
        return _made(link, tuple(f"{base}{path}" for base in bases))

    def require(self, name: str, medium: Medium, principal: Principal) -> None:
        """Raise what `make` would raise for a link of the usual kind; nothing is made or recorded."""
        self._allowed(self._core.seen(name, principal), medium)

    def _allowed(self, state: HostState, medium: Medium) -> list[str]:
        """The URLs at which a new link to the medium would be honoured; raises Denied, and Conflict when there is
        none."""
        core, name = self._core, state.host.name
        bases = core.endpoints.for_links()
        if not bases:
            remedy = "set [api] and its 'names', or 'links = true' in the [[listen]] block of a management network"
            raise Conflict(name, "this server gives no media to links", remedy)
        fresh = link_rules.imagined(name, medium, state.identity, core.clock())
        state, payload = core.payloads.weighed(state, medium, OPERATOR, core.clock())
        answer = policy.decide(state, core.site, medium, OPERATOR, Requester(bearer=fresh), payload, core.clock())
        if isinstance(answer, Denial):
            raise answer.error()
        return bases

    def listing(self, principal: Principal, host: str | None = None) -> list[api.LinkRow]:
        """Every link to hosts that the principal sees, or to one host, the newest first; never a secret."""
        core, now = self._core, self._core.clock()
        names = (
            {one.name for one in core.visible(principal)} if host is None else {core.seen(host, principal).host.name}
        )
        return [self._row(link, now) for link in core.store.links.all() if link.host in names]

    def _row(self, link: Link, now: datetime) -> api.LinkRow:
        state = self._core.state(link.host)
        over = "" if self._is_of_somebody(link, state) else "revoked"
        withdrawn = "" if state.identity == link.identity else "withdrawn"
        return api.LinkRow(
            id=link.id,
            host=link.host,
            medium=api.LinkMedium(link.medium),
            state=link_rules.standing(link, now) or over or withdrawn or "good",
            made=link.made.isoformat(),
            by=link.actor,
            expires=link.expires.isoformat(),
            uses=link.uses,
            used=len(link.taken),
            address=link.address,
            peers=tuple(use.peer for use in link.taken),
        )

    def read(self, name: str) -> Read | None:
        """How much of its medium was read by the link with that id; None while that is nothing, or cannot be known."""
        core, link = self._core, self._core.store.links.get(name)
        if link is None:
            return None
        try:
            state = core.state(link.host)
            medium = self._builder.layout(state.host, link.medium)
        except ProvisionError:  # the base is gone, or damaged, or nobody has signed it
            return None
        if state.identity != link.identity:
            return None  # its medium was another one
        return read(self.reads, link, medium)

    def layout(self, host: str, medium: Medium) -> MediumLayout:
        """What the host's medium is made of. Raises NotFound and Unavailable."""
        return self._builder.layout(self._core.state(host).host, medium)

    def revoke(self, name: str, principal: Principal) -> None:
        """Let the link with that id be good for nothing; what goes out by it now is cut off. Raises NotFound."""
        link = self._core.store.links.get(name)
        if link is None or not principal.sees(self._core.state(link.host).host.labels):
            raise NotFound(f"link {name}", "there is none with this id", "see 'provision link list'")
        if not link.revoked:
            with self._core.act("link-revoked", principal, host=link.host, medium=str(link.medium), link=link.id):
                self._core.store.links.revoke(link.id)
            self._core.witness()

    # For those who have one

    def take(self, path: str, asked: Asked, *, sends: bool) -> Taken:
        """The medium of the link in `path`; a request that `sends` bytes (GET) takes a use of it, when it does not
        belong to one.

        Raises NotFound for a link that there is not, or that is over for who asks: it is the same error. Raises Gone
        when the host has changed since, Denied by policy, TooMany, and Unavailable when it cannot be recorded.
        """
        found, now = secret_links.parse(path), self._core.clock()
        link = self._find(*found) if found is not None else None
        # Who is reading goes on, whatever others behind the same address have tried.
        if link is None or link.use_of(str(asked.address), now) is None:
            self._guesses.require(asked.address)
        state = self._state(link) if link is not None else None
        if found is None or link is None or state is None or not self._is_of_somebody(link, state):
            self._record_guess(asked, now)
            raise self._in_vain(asked)
        release, link = self._decide(state, link, asked, sends)
        if isinstance(release, Denial):
            raise self._refusal(release, asked)
        plan = self._plan(release, state, link, _SUFFIXES[found[1]].format)
        self._core.store.links.seen(link, str(asked.address), now)
        count = self._core.tally.counting(plan, str(asked.channel))

        def seen(first: int, last: int) -> None:
            count(first, last)
            self.reads.note(link.id, range(first, last))
            self._core.store.links.seen(link, str(asked.address), self._core.clock())

        return Taken(plan, self._checking(link), seen)

    def _find(self, secret: Secret, suffix: str) -> Link | None:
        link = self._core.store.links.find(secret)
        return link if link is not None and link.medium is _SUFFIXES[suffix].medium else None

    def _is_of_somebody(self, link: Link, state: HostState) -> bool:
        return is_link_of_somebody(self._core.settings, link.actor, state.host.labels)

    def _state(self, link: Link) -> HostState | None:
        try:
            return self._core.state(link.host)
        except NotFound:
            return None  # it has just been removed

    def _decide(self, state: HostState, link: Link, asked: Asked, sends: bool) -> tuple[Release | Denial, Link]:
        """What policy says, and the link as it then is. A use is taken before that is recorded, so that of many peers
        those who win are recorded as such, and nobody else; a byte goes out only after both."""
        core, peer, now = self._core, str(asked.address), self._core.clock()
        begins = sends and link.use_of(peer, now) is None
        if begins and not isinstance(self._foresee(state, link, asked, now), Denial):
            # Lost to somebody else, it is used up, and policy says so.
            link = core.store.links.use(link, peer, now) or core.store.links.get(link.id) or link
            core.witness()
        requester = _requester(link, asked)
        return core.decide(state, link.medium, asked.channel, requester, durable=True, counted=not begins), link

    def _foresee(self, state: HostState, link: Link, asked: Asked, now: datetime) -> Release | Denial:
        core, requester = self._core, _requester(link, asked)
        state, payload = core.payloads.weighed(state, link.medium, asked.channel, now)
        return policy.decide(state, core.site, link.medium, asked.channel, requester, payload, now)

    def _plan(self, release: Release, state: HostState, link: Link, format_: DiskFormat) -> Plan:
        copy = Copy(link.host, link.medium, link.copy, link.id)
        if self._builder.revision(state, OPERATOR, copy) != link.seed_revision:
            raise _withdrawn(link.id)
        return self._builder.plan(release, state, copy, format_)

    def _checking(self, link: Link) -> Callable[[], None]:
        """Raises Gone as soon as the link is revoked, or its host is another."""
        core, seen = self._core, self._core.store.snapshot

        def check() -> None:
            nonlocal seen
            present = core.store.links.get(link.id)
            if present is None or present.revoked:
                raise Gone(f"link {link.id}", "it has been revoked", "ask for another one")
            if core.store.snapshot is not seen:
                seen = core.store.snapshot
                state = self._state(link)
                if state is None or state.identity != link.identity:
                    raise _withdrawn(link.id)

        return check

    def _refusal(self, denial: Denial, asked: Asked) -> Exception:
        if denial.rule in link_rules.NO_SUCH_LINK:
            return self._in_vain(asked)
        if denial.rule == link_rules.WITHDRAWN:
            return Gone(denial.subject, denial.reason, denial.remedy)
        return denial.error()

    def _record_guess(self, asked: Asked, now: datetime) -> None:
        channel = str(asked.channel)
        refused = {"time": now, "event": "link-refused", "channel": channel, "address": str(asked.address)}
        self._core.audit.record(refused | {"answer": "denied"}, bound=guessing(channel))
        self._core.tally.refused("link-refused", channel)

    def _in_vain(self, asked: Asked) -> NotFound:
        """The error for whoever has no link that is good, noted."""
        self._guesses.note(asked.address)
        return NotFound("link", "there is no such link", "ask whoever gave it to you for another one")


def _suffix(medium: Medium, format_: DiskFormat) -> str:
    return format_.suffix if medium is Medium.DISK else str(medium)


_SUFFIXES = {_suffix(kind.medium, kind.format): kind for kind in DOWNLOADS.values()}
"""What the last part of a link's path asks for. A disk's link is good for each of its formats: they are one disk."""


def _requester(link: Link, asked: Asked) -> Requester:
    return Requester(local=asked.local, bearer=Bearer(link, asked.address))


def _made(link: Link, urls: tuple[str, ...]) -> api.MadeLink:
    longest = max(map(len, urls))
    caution = f"a URL of it has {longest} characters, and some BMCs take {secret_links.MOST_CHARACTERS}"
    return api.MadeLink(
        id=link.id,
        host=link.host,
        medium=api.LinkMedium(link.medium),
        expires=link.expires.isoformat(),
        uses=link.uses,
        address=link.address,
        urls=urls,
        caution=caution if longest > secret_links.MOST_CHARACTERS else None,
    )


def _withdrawn(name: str) -> Gone:
    return Gone(f"link {name}", "its host has changed since it was made", "ask for another one")
