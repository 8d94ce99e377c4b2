"""rollout: give hosts a new base image, some at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import Selector, selector_parameters
from provision.cli.context import context

if TYPE_CHECKING:
    from provision.api.rollouts import RolloutStatus

_ROUTE = "/v1/rollout"


def start(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The imported base image")],
    selector: Selector = None,
    percent: Annotated[int, typer.Option("--percent", metavar="N", min=1, max=100, help="Hosts at a time")] = 10,
    max_failures: Annotated[
        int, typer.Option("--max-failures", metavar="N", min=0, help="Stop when more than N hosts do not come up")
    ] = 0,
    minutes: Annotated[
        int, typer.Option("--minutes", metavar="N", min=5, max=1440, help="How long a boot may take")
    ] = 60,
) -> None:
    """Start to give hosts a new base image.

    Some hosts get it first, and more when those have come up. A host gets it at its next boot; a host that runs from
    its own disk updates itself.
    """
    from provision.api.rollouts import StartRollout

    labels = selector_parameters(selector)
    given = {labels["label"]: labels["value"]} if labels else {}
    order = StartRollout.model_construct(
        base=base, selector=given, percent=percent, max_failures=max_failures, minutes=minutes
    )
    _call("POST", _ROUTE, order)


def status() -> None:
    """Show how far the roll-out is."""
    _call("GET", _ROUTE)


def pause() -> None:
    """Pause: move no more hosts."""
    _call("POST", f"{_ROUTE}/pause")


def continue_() -> None:
    """Go on after a pause or a stop.

    Hosts that have failed so far no longer stop the roll-out.
    """
    _call("POST", f"{_ROUTE}/continue")


def rollback() -> None:
    """Give every host the base of the inventory again.

    The hosts that have come up with the new base are listed: they keep it until they boot again.
    """
    from provision.api.rollouts import RolledBack

    given = context()
    with given.client() as client:
        done = client.call(RolledBack, "DELETE", _ROUTE)
    if given.json:
        output.data(done)
        return
    hosts = f"{done.hosts} host{'s have' if done.hosts != 1 else ' has'}"
    output.say(f"{hosts} the base image of the inventory again")
    if done.booted:
        output.say(f"these have come up with {done.base}, until they boot again: {' '.join(done.booted)}")


def _call(method: str, path: str, body: object = None) -> None:
    from provision.api.rollouts import RolloutStatus

    given = context()
    with given.client() as client:
        done = client.call(RolloutStatus, method, path, body=body)
    if given.json:
        output.data(done)
    else:
        _show(done)


def _show(seen: RolloutStatus) -> None:
    left = f"{seen.left} host{'s' if seen.left != 1 else ''}"
    hosts = " ".join(f"{label}={value}" for label, value in seen.selector.items()) or "all hosts"
    output.say(f"{seen.base} for {hosts}, {seen.percent} % at a time: {seen.state}, {left} left")
    if seen.reason is not None:
        output.say(f"it was stopped: {seen.reason}")
    output.table(
        ("HOST", "MOVED", "OUTCOME"), ((one.host, output.moment(one.moved), one.outcome) for one in seen.hosts)
    )
