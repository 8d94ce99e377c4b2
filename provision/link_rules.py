"""What keeps the bearer of a link from its medium; pure, for `provision.policy`, which asks in its own order."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import IPv4Address

from provision.boot import Bearer, Channel, ChannelKind, Link, Medium
from provision.denial import Denial

NO_SUCH_LINK = frozenset(("link-ended", "link-elsewhere"))
"""The rules of which a bearer hears no more than who has guessed a link."""

WITHDRAWN = "link-withdrawn"
"""The rule that keeps a link to what it was made for."""


def imagined(host: str, medium: Medium, identity: str, now: datetime, address: IPv4Address | None = None) -> Bearer:
    """Who would have a link to the host's medium if it were made now, to ask policy about."""
    link = Link("", 0, host, medium, identity, "", "", now, now + timedelta(minutes=1), 1, "")
    return Bearer(link, address or IPv4Address(0))


def ended(bearer: Bearer, now: datetime) -> Denial | None:
    """Whether the link is as good as none to its bearer."""
    link, peer = bearer.link, bearer.peer
    if link.has_ended(peer, now):
        fact = standing(link, now) or f"in use by {' and '.join(use.peer for use in link.taken)}"
        return Denial("link-ended", link.host, f"{_the(link)} is {fact}", _another(link))
    if link.address not in (None, peer):
        fact = f"{_the(link)} is for {link.address} alone, and {peer} asks"
        return Denial("link-elsewhere", link.host, fact, _another(link))
    return None


def in_clear(bearer: Bearer, channel: Channel, local: bool) -> Denial | None:
    """Whether the medium would go out in plain HTTP where it must not. It does on every channel but the operator's, and
    may to BMCs of a management network, which have no way to check a certificate of the site's own."""
    if channel.kind is ChannelKind.OPERATOR:
        return None
    link, network, remedy = bearer.link, f"network '{channel.network}'", "Use its https:// address"
    if channel.kind is not ChannelKind.MANAGEMENT:
        fact = f"{_the(link)} is not honoured in plain HTTP on {network}, which is general"
    elif not channel.links:
        fact = f"{_the(link)} is not honoured in plain HTTP on {network}, which does not serve links"
        remedy = f"{remedy}, or set 'links = true' in the network's [[listen]] block"
    elif local:
        fact = f"{_the(link)} is not honoured in plain HTTP from an address of this server: maybe a proxy"
    elif channel.prefix is None or bearer.address not in channel.prefix:
        fact = f"{_the(link)} is not honoured in plain HTTP from {bearer.peer}, which is not inside {channel.prefix}"
    else:
        return None
    return Denial("link-in-clear", link.host, fact, remedy)


def withdrawn(bearer: Bearer, identity: str) -> Denial | None:
    """Whether the host has changed since the link was made."""
    link = bearer.link
    if link.identity == identity:
        return None
    return Denial("link-withdrawn", link.host, f"{link.host} has changed since link {link.id} was made", _another(link))


def standing(link: Link, now: datetime) -> str:
    """Why nobody gets anything by a link any more, as what it "is"; "" while somebody may."""
    if link.revoked:
        return "revoked"
    if not link.is_alive(now):
        return "expired" if now >= link.expires else "dated in the future; the clock was wrong then"
    running = any(use.goes_on(use.peer, now) for use in link.taken)
    return "" if running or len(link.taken) < link.uses else f"used up ({len(link.taken)} of {link.uses} uses)"


def _the(link: Link) -> str:
    """The link as a sentence begins; one that was only imagined has no id."""
    return f"{f'Link {link.id}' if link.id else 'A link'} to {link.host}'s {link.medium}"


def _another(link: Link) -> str:
    return f"Make another one: 'provision link {link.host} --medium {link.medium}'"
