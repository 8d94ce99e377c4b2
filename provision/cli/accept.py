"""store accept, clock accept: an operator takes what the server does not believe by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from provision.api.audit import Accept, AcceptedClock, AcceptedStore
from provision.cli import output
from provision.cli.main import context
from provision.cli.received import plain

store_app = typer.Typer(no_args_is_help=True, help="The database, when the server does not believe it.")
clock_app = typer.Typer(no_args_is_help=True, help="The clock, when it has gone back.")
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes to the audit log")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(store_app, name="store")
    app.add_typer(clock_app, name="clock")


@store_app.command("accept")
def accept_store(reason: Reason) -> None:
    """Believe the database as it is now, after a restore or when something else has changed it.

    Look first: 'provision apply --dry-run' with the inventory files, 'provision credential list', 'provision status'.
    Every window is closed.
    """
    given = context()
    with given.client() as client:
        done = client.call(AcceptedStore, "POST", "/v1/store/accept", body=_why(reason))
    if given.json:
        output.data(plain(done))
        return
    was = f"; before, it {done.was}" if done.was else ""
    output.say(f"the database of {done.hosts} hosts is believed as generation {done.generation}{was}")
    output.say("every window is closed; open those that are needed with 'provision window HOST'")


@clock_app.command("accept")
def accept_clock(reason: Reason) -> None:
    """Take the clock as it is, when it is right now and was ahead before. Every window is closed."""
    given = context()
    with given.client() as client:
        done = client.call(AcceptedClock, "POST", "/v1/clock/accept", body=_why(reason))
    if given.json:
        output.data(plain(done))
        return
    output.say(f"it is {done.now}, and no longer {done.was}")
    output.say("every window is closed; open those that are needed with 'provision window HOST'")


def _why(reason: str) -> Accept:
    # The service says what is wrong with it.
    return Accept.model_construct(reason=reason)
