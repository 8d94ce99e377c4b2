"""site-key: look after the keys with which the site signs and approves."""

from __future__ import annotations

from typing import Annotated

import typer

from provision.cli import output
from provision.cli.arguments import route
from provision.cli.context import context
from provision.site_key import KeyUse

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="The key's number, as 'site-key list' has it")]


def list_() -> None:
    """List the site's keys.

    Of several keys with one use, the oldest is in use. A host trusts those that existed when its image was made.
    """
    from provision.api.site_keys import SiteKeyRow

    given = context()
    with given.client() as client:
        rows = client.call(list[SiteKeyRow], "GET", "/v1/site-keys")
    if given.json:
        output.data(rows)
        return
    columns = ("NUMBER", "USE", "IN USE", "PRIVATE HALF", "MADE", "SHA-256")
    output.table(
        columns,
        (
            (
                str(row.number),
                row.use,
                "yes" if row.used else "no",
                "sealed here" if row.on_server else "elsewhere",
                output.moment(row.created),
                row.fingerprint,
            )
            for row in rows
        ),
    )


def roll(
    use: Annotated[KeyUse, typer.Argument(metavar="USE", help="signing or approval; 'sb init' makes Secure Boot keys")],
) -> None:
    """Make a new key, not in use yet.

    Images that are made from now on trust it. Sign the images again, let every host boot the new one, then retire the
    old key: the new one is in use from there on.
    """
    from provision.api.site_keys import RollSiteKey, SiteKeyRow

    given = context()
    with given.client() as client:
        row = client.call(SiteKeyRow, "POST", "/v1/site-keys", body=RollSiteKey(use=use))
    if given.json:
        output.data(row)
    else:
        output.say(f"made site key {row.number} ({row.use}), {'in use' if row.used else 'not in use yet'}")


def retire(
    number: Number,
    force: Annotated[bool, typer.Option("--force", help="Although hosts may not know the next key yet")] = False,
) -> None:
    """Forget a key.

    A host whose image knows no other key accepts nothing from this server after that. So this is refused while hosts
    have not booted since the next key was made. When somebody else may have the key, give --force at once.
    """
    with context().client() as client:
        client.remove(route("site-keys", str(number)) + ("?force=true" if force else ""))
    if context().json:
        output.data({"number": number, "retired": True})
    else:
        output.say(f"retired site key {number}")
