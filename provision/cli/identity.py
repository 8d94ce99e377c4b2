"""host reprovision, host decommission: the identity that a host keeps on its own disk."""

from __future__ import annotations

from typing import Annotated

import typer

from provision.cli import output
from provision.cli.arguments import HostName, route
from provision.cli.context import context


def reprovision(host: HostName) -> None:
    """Give a host a new identity at its next boot.

    This opens a window. Until that boot, the host keeps the identity on its disk.
    """
    from provision.api.hosts import OpenedWindow

    given = context()
    with given.client() as client:
        opened = client.call(OpenedWindow, "POST", route("hosts", host, "reprovision"))
    if given.json:
        output.data(opened)
    else:
        until = output.moment(opened.expires)
        output.say(f"{host}: boot it from its management network before {until}, and it stores its new identity")
        if opened.caution is not None:
            output.say(f"note: {opened.caution}")


def decommission(
    host: HostName,
    lost: Annotated[
        bool, typer.Option("--lost", help="The disk is lost: forget the identity, and declare the host compromised")
    ] = False,
) -> None:
    """Have a host wipe the identity on its disk.

    The host does so when it next reports that it is up, or within seconds when it is up already. 'status' shows the
    order until the host has confirmed it.
    """
    from provision.api.hosts import Decommission, Decommissioned

    given = context()
    with given.client() as client:
        body = Decommission(lost=lost)
        done = client.call(Decommissioned, "POST", route("hosts", host, "decommission"), body=body)
    if given.json:
        output.data(done)
    elif done.wiping:
        output.say(f"{host}: will wipe its identity when it next reports that it is up")
    else:
        output.say(f"{host}: its identity is forgotten, and its credentials are exposed; replace each of them")
    if not given.json and done.sealed:
        output.say(
            "it keeps nothing in clear: its own TPM alone opens what it has, in a boot chain that the site has approved"
        )
