"""store accept, clock accept: an operator takes what the server does not believe by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from provision.cli import output
from provision.cli.context import context

if TYPE_CHECKING:
    from pydantic import BaseModel

_Accepted = TypeVar("_Accepted", bound="BaseModel")

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log")]


def accept_store(reason: Reason) -> None:
    """Accept the database as it is now.

    After a restore, or when something other than the service changed it. Look first: 'provision apply --dry-run' with
    the inventory files, 'provision credential list', 'provision status'. Every window is closed.
    """
    from provision.api.audit import AcceptedStore

    done = _accept(AcceptedStore, "store", reason)
    was = f"; before, it {done.was}" if done.was else ""
    _tell(done, f"the database of {done.hosts} hosts is believed as generation {done.generation}{was}")


def accept_clock(reason: Reason) -> None:
    """Accept the clock as it is now.

    When it is right now, and was ahead before. Every window is closed.
    """
    from provision.api.audit import AcceptedClock

    done = _accept(AcceptedClock, "clock", reason)
    _tell(done, f"it is {done.now}, and no longer {done.was}")


def _accept(kind: type[_Accepted], what: str, reason: str) -> _Accepted:
    from provision.api.audit import Accept

    # The service says what is wrong with it.
    body = Accept.model_construct(reason=reason)
    with context().client() as client:
        return client.call(kind, "POST", f"/v1/{what}/accept", body=body)


def _tell(answer: BaseModel, fact: str) -> None:
    if context().json:
        output.data(answer)
        return
    output.say(fact)
    output.say("every window is closed; open those that are needed with 'provision window HOST'")
