"""Links in tests: made by an operator, and what somebody gets who has one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

from provision.api.links import LinkMedium, MadeLink, MakeLink
from provision.boot import OPERATOR, Channel
from provision.media.plan import Plan
from provision.media.reader import Reader
from provision.service.links import Asked, Taken
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MANAGEMENT, Site

BMC, OTHER = "10.0.0.201", "10.0.0.202"
PLAIN = replace(MANAGEMENT, links=True)
"""A boot listener that honours links."""


@dataclass(frozen=True)
class Made:
    """A link, and its path."""

    id: str
    path: str
    answer: MadeLink


def make(here: Site, host: str = "node1", medium: LinkMedium = LinkMedium.ISO, **fields: object) -> Made:
    """A link for one use, or as the `fields` of the order say."""
    answer = here.service.links.make(host, MakeLink.model_validate({"medium": medium, **fields}), ROOT)
    return Made(answer.id, "/b/" + answer.urls[0].rpartition("/")[2], answer)


def take(
    here: Site,
    link: Made | str,
    peer: str = BMC,
    *,
    sends: bool = True,
    channel: Channel = OPERATOR,
    local: bool = False,
) -> Taken:
    """What `peer` gets by GET, or by HEAD when it is not to be sent bytes."""
    path = link if isinstance(link, str) else link.path
    return here.service.links.take(path, Asked(channel, ip_address(peer), local), sends=sends)


def content(plan: Plan) -> bytes:
    """The whole medium."""
    with Reader(plan) as reader:
        return reader.pread(0, plan.size)
