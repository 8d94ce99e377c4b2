"""link: short URLs of hosts' media, for BMCs and browsers."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, get_args

import typer

from provision.api.links import LinkId, LinkMedium
from provision.boot import DiskFormat
from provision.cli import output
from provision.cli.arguments import HostName, of_host, route
from provision.cli.context import context
from provision.errors import Invalid

_ID = re.compile(get_args(LinkId)[1].pattern)


def create(
    host: HostName,
    medium: Annotated[LinkMedium, typer.Option("--medium", help="Which medium")] = LinkMedium.ISO,
    format_: Annotated[DiskFormat, typer.Option("--format", help="The format of a disk")] = DiskFormat.RAW,
    minutes: Annotated[int, typer.Option("--minutes", metavar="N", help="How long")] = 60,
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="How often")] = 1,
    address: Annotated[
        str | None, typer.Option("--address", metavar="BMC", help="Only for this IP address [anyone who has the URL]")
    ] = None,
) -> None:
    """Make a short URL of a host's medium.

    Anyone with the URL can read the host's credentials until it expires, so give it to the host's BMC alone. It is
    shown only once. One use is
    everything that one address reads of it, until that address has asked for nothing for ten minutes.
    """
    from provision.api.links import MadeLink, MakeLink

    if format_ is not DiskFormat.RAW and medium is not LinkMedium.DISK:
        raise typer.BadParameter("is for a disk; give --medium disk, too", param_hint="--format")
    given, peer = context(), _address(address) if address is not None else None
    wanted = MakeLink(medium=medium, format=format_, minutes=minutes, uses=uses, address=peer)
    with given.client() as client:
        made = client.call(MadeLink, "POST", route("hosts", host, "links"), body=wanted)
    if given.json:
        output.data(made)
        return
    for url in made.urls:
        output.say(url)
    whom = f"by {made.address}" if made.address else "by anyone who has it"
    good = f"to be used {output.times(made.uses)} {whom}, until {output.moment(made.expires)}"
    output.say(f"link {made.id} to {host}'s {made.medium}: {good}")
    if made.caution:
        output.say(made.caution)


def list_(
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="Only those of this host")] = None,
) -> None:
    """List links, never their URLs."""
    from provision.api.links import LinkRow

    given = context()
    with given.client() as client:
        rows = client.call(list[LinkRow], "GET", "/v1/links", params=of_host(host))
    if given.json:
        output.data(rows)
        return
    columns = ("ID", "HOST", "MEDIUM", "STATE", "USED", "EXPIRES", "ADDRESS", "PEERS", "MADE BY")
    output.table(
        columns,
        (
            (
                r.id,
                r.host,
                r.medium,
                r.state,
                f"{r.used}/{r.uses}",
                output.moment(r.expires),
                r.address,
                " ".join(r.peers),
                r.by,
            )
            for r in rows
        ),
    )


def revoke(link: Annotated[str, typer.Argument(metavar="ID", help="The link's id, as 'link list' has it")]) -> None:
    """Revoke a link.

    What goes out by it is cut off.
    """
    if not _ID.fullmatch(link):
        # Not repeated: what is not an id may be the URL, which is a secret.
        raise Invalid("link", "is not a valid link id", "see 'provision link list'")
    given = context()
    with given.client() as client:
        client.remove(route("links", link))
    if given.json:
        output.data({"id": link, "revoked": True})
    else:
        output.say(f"revoked link {link}")


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise typer.BadParameter("is not a valid IP address", param_hint="--address") from None
