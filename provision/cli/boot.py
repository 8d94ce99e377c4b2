"""boot: from powered off to up, by BMCs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import Selector, route, selector_parameters
from provision.cli.context import context
from provision.cli.operations import Begin, Followed, follow_all
from provision.errors import Exit, Invalid

if TYPE_CHECKING:
    from provision.cli.client import Client

AT_ONCE = 8
"""Hosts of a selector that boot at the same time."""


class Way(StrEnum):
    """From what; the command is explained without the API's models."""

    PXE = "pxe"
    HTTP_BOOT = "http-boot"
    CD = "cd"


def boot(
    host: Annotated[str | None, typer.Argument(metavar="HOST", help="The host's name in the inventory")] = None,
    via: Annotated[
        Way, typer.Option("--via", metavar="WAY", help="pxe, http-boot or cd (its ISO by a link)")
    ] = Way.PXE,
    minutes: Annotated[
        int, typer.Option("--minutes", metavar="N", min=1, max=1440, help="How long it may take until it is up")
    ] = 60,
    force: Annotated[bool, typer.Option("--force", help="Switch off a machine that runs first, at once")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Say each step")] = False,
    selector: Selector = None,
) -> None:
    """Boot a host by its BMC, from powered off to up.

    Policy is asked first. A window is opened, or a link made and put into the virtual CD; the machine boots from there
    once. When the host is up, when a step fails or on Ctrl-C, all of that is taken back.
    """
    if (host is None) == (selector is None):
        raise Invalid("boot", "needs a host or --selector", "give one of them")
    given = context()

    def say(name: str, text: str) -> None:
        if watch and not given.json:
            output.say(f"{name}: {text}")

    with given.client() as client:
        names = [host] if host is not None else _selected(client, selector)
        ended = follow_all(client, names, _beginning(client, via, minutes, force), say, AT_ONCE)
    _report(ended, given.json, alone=host is not None)


def _selected(client: Client, selector: str | None) -> list[str]:
    from provision.api.hosts import HostRow

    return [row.name for row in client.call(list[HostRow], "GET", "/v1/hosts", params=selector_parameters(selector))]


def _beginning(client: Client, via: Way, minutes: int, force: bool) -> Begin:
    """What begins the boot of a host."""
    from provision.api.bmc import BootOrder, BootVia
    from provision.api.operations import Operation

    order = BootOrder(via=BootVia(via.value), minutes=minutes, force=force)
    return lambda name: client.call(Operation, "POST", route("hosts", name, "boot"), body=order)


def _report(ended: list[Followed], as_json: bool, alone: bool) -> None:
    """Say how each ended; raises the error of one that was alone, and exits with 1 when one of many failed."""
    failed = [one for one in ended if one.error is not None]
    if alone and failed and failed[0].error is not None:
        raise failed[0].error
    if as_json:
        output.data([{"host": one.host, "up": one.error is None, "problem": _details(one)} for one in ended])
    else:
        for one in ended:
            output.say(f"{one.host}: up" if one.error is None else output.failed(one.host, one.error))
    if failed:
        raise typer.Exit(Exit.FAILED)


def _details(one: Followed) -> object:
    return one.error.details() if one.error is not None else None
