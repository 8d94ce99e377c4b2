"""host retry-update, and how the slots on a host's disk are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provision.cli import output
from provision.cli.arguments import HostName, route
from provision.cli.context import context

if TYPE_CHECKING:
    from provision.api.hosts import HostSlots


def retry_update(host: HostName) -> None:
    """Let a host try a failed update again.

    A host refuses a base image that has failed on it until you run this.
    """
    from provision.api.hosts import HostSlots

    given = context()
    with given.client() as client:
        slots = client.call(HostSlots, "POST", route("hosts", host, "retry-update"))
    if given.json:
        output.data(slots)
    else:
        failed = ", ".join(one.image or one.version[:16] for one in slots.failed)
        output.say(f"{host}: will try {failed} again when that update is due")


def line(slots: HostSlots) -> tuple[str, str, str, str, str]:
    """A host's slots in short: what it runs, from which slot, what becomes of an update, since when, what failed."""
    running = slots.a if slots.running == "a" else slots.b
    runs = slots.image or (running[:16] if running else "?")
    proven = "" if slots.running == slots.default else ", unproven"
    doing = f"{slots.doing} {slots.version[:16]}" if slots.version else slots.doing
    if slots.reason:
        doing += f": {slots.reason}"
    failed = ", ".join(one.image or one.version[:16] for one in slots.failed if not one.retried)
    return runs, f"{slots.running}{proven}", doing, output.moment(slots.reported), failed
