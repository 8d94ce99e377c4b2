"""Following an operation of the service to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from provision.cli.arguments import route
from provision.cli.received import error_of, foreign

if TYPE_CHECKING:
    from provision.api.operations import Operation
    from provision.cli.client import Client

_WAIT_SECONDS = 30


def follow(client: Client, begun: Operation, say: Callable[[str], None]) -> Operation:
    """Wait for the operation's end, and say each of its steps; raises the error that it ended with.

    Ctrl-C cancels the operation; another one leaves it alone.
    """
    try:
        return _followed(client, begun, say)
    except KeyboardInterrupt:
        say(f"cancelling operation {begun.id}, and undoing what it has done")
        client.remove(route("operations", begun.id))
        _followed(client, begun, say)
        raise


def _followed(client: Client, begun: Operation, say: Callable[[str], None]) -> Operation:
    from provision.api.operations import Operation, OperationState

    seen, said = begun, 0
    while True:
        for step in seen.steps[said:]:
            say(step)
        said = max(said, len(seen.steps))
        if seen.state is not OperationState.RUNNING:
            break
        wanted = {"wait": str(_WAIT_SECONDS), "steps": str(len(seen.steps))}
        seen = client.call(Operation, "GET", route("operations", begun.id), params=wanted)
    if seen.state is OperationState.FAILED:
        raise error_of(seen.problem) if seen.problem is not None else foreign()
    return seen
