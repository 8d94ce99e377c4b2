"""token: let in people and programs that are not on the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import labels, route
from provision.cli.context import context
from provision.errors import Invalid
from provision.principal import PrincipalRole
from provision.token import DEFAULT_DAYS, MOST_DAYS

if TYPE_CHECKING:
    from provision.api.tokens import NewToken, TokenRow

TokenName = Annotated[str, typer.Argument(metavar="NAME", help="What the token is called")]


def create(
    name: TokenName,
    role: Annotated[PrincipalRole, typer.Option("--role", metavar="ROLE", help="reader, auditor, operator or admin")],
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=MOST_DAYS, help="Days until it expires")
    ] = DEFAULT_DAYS,
    selector: Annotated[
        list[str] | None,
        typer.Option(
            "--selector", metavar="LABEL=VALUE", help="Only for hosts with this label; give it again for more"
        ),
    ] = None,
) -> None:
    """Make a token and print it: it is never shown again.

    Readers look; auditors read the audit log, too; operators open windows and take media, which carry secrets; admins
    change the inventory, credentials, images and tokens.
    """
    from provision.api.tokens import CreatedToken

    given, wanted = context(), _wanted(name, role, days, labels(selector or []))
    with given.client() as client:
        made = client.call(CreatedToken, "POST", "/v1/tokens", body=wanted)
    if given.json:
        output.data(made)
        return
    output.notes(False)(f"token {made.name} is good until {output.moment(made.expires)}; it is not shown again")
    output.say(made.token)


def _wanted(name: str, role: PrincipalRole, days: int, selector: dict[str, str]) -> NewToken:
    """The request for a token; raises Invalid for names and labels that nothing can have."""
    from pydantic import ValidationError

    from provision.api.tokens import NewToken

    try:
        return NewToken(name=name, role=role, days=days, selector=selector)
    except ValidationError as error:
        (at, *_) = error.errors()[0]["loc"]
        what, remedy = {
            "name": ("its name is not valid", "use at most 63 lower-case letters, digits and '-'"),
            "selector": ("its selector is not valid", "see 'provision host show' for those of a host"),
        }[str(at)]
        raise Invalid("token", what, remedy) from None


def list_() -> None:
    """List tokens, and when each was used last."""
    from provision.api.tokens import TokenRow

    given = context()
    with given.client() as client:
        rows = client.call(list[TokenRow], "GET", "/v1/tokens")
    if given.json:
        output.data(rows)
        return
    columns = ("NAME", "ROLE", "HOSTS", "EXPIRES", "LAST USED", "MADE BY")
    output.table(
        columns,
        ((row.name, row.role, _hosts(row), _end(row), row.used and output.moment(row.used), row.actor) for row in rows),
    )


def _hosts(row: TokenRow) -> str:
    return ",".join(f"{label}={value}" for label, value in sorted(row.selector.items())) or "all"


def _end(row: TokenRow) -> str:
    return output.moment(row.expires) + ("" if row.good else " (expired)")


def revoke(name: TokenName) -> None:
    """Revoke a token; it is good for nothing from now on."""
    with context().client() as client:
        client.remove(route("tokens", name))
    if context().json:
        output.data({"name": name, "revoked": True})
    else:
        output.say(f"revoked {name}")
