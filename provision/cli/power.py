"""power: switch hosts by their BMCs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from provision.cli import output
from provision.cli.arguments import HostName, route
from provision.cli.context import context
from provision.cli.operations import follow


class Wanted(StrEnum):
    """What to do; the command is explained without the API's models."""

    ON = "on"
    OFF = "off"
    CYCLE = "cycle"
    STATUS = "status"


def power(
    host: HostName,
    action: Annotated[Wanted, typer.Argument(metavar="ACTION", help="on, off, cycle (off, then on) or status")],
    force: Annotated[bool, typer.Option("--force", help="Switch off at once, without the operating system")] = False,
) -> None:
    """Switch a host on or off by its BMC, or say whether it runs.

    Without --force the operating system is asked to shut down, and has five minutes. Ctrl-C cancels what is left to do;
    what the BMC was already told to do still happens, and a host that is to be off and then on stays off.
    """
    from provision.api.bmc import ChangePower, HostPower, PowerAction
    from provision.api.operations import Operation

    given, place = context(), route("hosts", host, "power")
    with given.client() as client:
        if action is Wanted.STATUS:
            found = client.call(HostPower, "GET", place)
        else:
            order = ChangePower(action=PowerAction(action.value), force=force)
            done = follow(
                client,
                host,
                lambda _: client.call(Operation, "POST", place, body=order),
                lambda name, text: None if given.json else output.say(f"{name}: {text}"),
            )
    if given.json:
        output.data(found if action is Wanted.STATUS else done)
    elif action is Wanted.STATUS:
        output.say(f"{host}: the machine is {found.power}")
