"""login, logout: which server this user asks from elsewhere, what it has to prove, and who asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.context import context
from provision.errors import NotFound

if TYPE_CHECKING:
    from provision.cli.servers import Address


def login(
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="The token; - for standard input [asks for it]")
    ] = None,
    kerberos: Annotated[bool, typer.Option("--kerberos", help="Show a Kerberos ticket instead of a token")] = False,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="SHA256", help="Pin the CA with this fingerprint [asks]")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="Pin the CA in this PEM file")] = None,
    system_ca: Annotated[
        bool, typer.Option("--system-ca", help="Pin no CA: trust those that this system trusts")
    ] = False,
) -> None:
    """Log in to a server: 'provision --server https://HOST login'.

    The server's CA is pinned: from then on no other is trusted for this server. Compare the fingerprint that is shown
    with the one that the server's admin gives you. The token is checked, and stored in a file that only you can read.
    It is never taken from the command line. With --kerberos there is none: each command shows your ticket (see kinit).
    """
    address = _address()
    if sum((fingerprint is not None, ca is not None, system_ca)) > 1:
        raise typer.BadParameter("give one of --fingerprint, --ca and --system-ca")
    if kerberos and token_file is not None:
        raise typer.BadParameter("give one of --kerberos and --token-file")
    from provision.cli.enrolment import Wanted, enter

    who = enter(address, Wanted(fingerprint, ca, system_ca), token_file, by_ticket=kerberos)
    if context().json:
        output.data({"server": address.url, **output.members(who)})
        return
    hosts = "".join(f", for hosts with {label}={value}" for label, value in who.selector.items())
    until = f", until {output.moment(who.expires)}" if who.expires is not None else ""
    output.say(f"{address.url}: logged in as {who.name}, role {who.role}{hosts}{until}")


def logout() -> None:
    """Forget a server: its token, if there is one, and its CA.

    The token itself stays good until it expires or is revoked, and a Kerberos ticket until it expires.
    """
    from provision.cli import servers

    address = _address()
    found = servers.forget(address)
    if found is None:
        raise NotFound(address.url, "you are not logged in to it", "check --server and $PROVISION_SERVER")
    if context().json:
        output.data({"server": address.url, "forgotten": True})
    elif found.token is None:
        output.say(f"{address.url}: forgot its CA; your Kerberos ticket is good until it expires (see kdestroy)")
    else:
        output.say(
            f"{address.url}: forgot its token and its CA; the token itself is good until it expires or is revoked"
        )


def _address() -> Address:
    address = context().server
    if address is None:
        raise typer.BadParameter("say which server: 'provision --server https://HOST login'", param_hint="--server")
    return address
