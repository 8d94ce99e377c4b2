"""store accept, clock accept: an operator takes what the server does not believe by itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from provision.cli import output
from provision.cli.context import context

Reason = Annotated[str, typer.Option("--reason", help="Why; it goes to the audit log")]


def accept_store(reason: Reason) -> None:
    """Believe the database as it is now, after a restore or when something else has changed it.

    Look first: 'provision apply --dry-run' with the inventory files, 'provision credential list', 'provision status'.
    Every window is closed.
    """
    from provision.cli.answers import BelievedStore, shaped

    answer = _accept("store", reason)
    done = shaped(BelievedStore, answer)
    was = f"; before, it {done.was}" if done.was else ""
    _tell(answer, f"the database of {done.hosts} hosts is believed as generation {done.generation}{was}")


def accept_clock(reason: Reason) -> None:
    """Take the clock as it is, when it is right now and was ahead before. Every window is closed."""
    from provision.cli.answers import BelievedClock, shaped

    answer = _accept("clock", reason)
    done = shaped(BelievedClock, answer)
    _tell(answer, f"it is {done.now}, and no longer {done.was}")


def _accept(what: str, reason: str) -> Any:
    with context().client() as client:
        return client.call("POST", f"/v1/{what}/accept", json={"reason": reason})


def _tell(answer: Any, fact: str) -> None:
    if context().json:
        output.data(answer)
        return
    output.say(fact)
    output.say("every window is closed; open those that are needed with 'provision window HOST'")
