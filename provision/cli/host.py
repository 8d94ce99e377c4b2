"""host compromised, host replace-mac: what is done with a host that is no longer what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import HostName, route
from provision.cli.context import context
from provision.errors import Invalid

if TYPE_CHECKING:
    from provision.api.hosts import Compromised


def compromised(host: HostName) -> None:
    """Declare a host compromised.

    This ends its window, links, boots and downloads, revokes the tokens that are for it alone, removes its TPM, and
    marks its credentials as exposed. The host gets nothing until each of its credentials has new content.
    """
    from provision.api.hosts import Compromised

    given = context()
    with given.client() as client:
        done = client.call(Compromised, "POST", route("hosts", host, "compromised"))
    if given.json:
        output.data(done)
        return
    for line in _ended(done):
        output.say(line)


def replace_mac(
    host: HostName,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The NIC that is gone: its MAC, or its interface's name")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The MAC of the NIC that is there now")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference")] = False,
) -> None:
    """Replace the MAC of a host whose NIC was exchanged.

    This closes its window, and revokes its links. Put the lines that it prints into the inventory files, or the next
    apply changes the MAC back.
    """
    from provision.api.hosts import ReplacedMac, ReplaceMac
    from provision.inventory.replacement import fragment

    given = context()
    try:
        order = ReplaceMac(old=old, new=new, dry_run=dry_run)
    except ValueError:
        raise Invalid(
            host, "OLD is not a valid MAC or interface, or NEW is not a valid MAC", "write 'replace-mac HOST OLD NEW'"
        ) from None
    with given.client() as client:
        done = client.call(ReplacedMac, "POST", route("hosts", host, "replace-mac"), body=order)
    if given.json:
        output.data(done)
        return
    for line in (*done.changes.lines, *(f"note: {note}" for note in done.changes.notes)):
        output.say(line)
    output.say("dry run, nothing is changed" if dry_run else f"{host}: has {done.new} instead of {done.old}")
    output.say("Change the inventory files, too, or the next apply changes it back:")
    output.text(fragment(done.host, done.interfaces).rstrip())


def move(
    host: HostName,
    macs: Annotated[list[str], typer.Argument(metavar="MAC...", help="The new MACs, in the order of the old ones")],
    uuid: Annotated[
        str | None, typer.Option("--uuid", metavar="UUID", help="The UUID (SMBIOS) of the new machine [none]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference")] = False,
) -> None:
    """Move a host to new hardware.

    This closes its window, withdraws its links and its media, and removes its TPM; what the old machine reports counts
    no longer. Wipe the disk of the old machine, and open a window for the new one.
    """
    from provision.api.hosts import MovedHost, MoveHost
    from provision.inventory.replacement import fragment

    given = context()
    try:
        order = MoveHost.model_validate({"macs": macs, "uuid": uuid, "dry_run": dry_run})
    except ValueError:
        raise Invalid(host, "a MAC or the UUID is not valid", "write 'host move HOST MAC...'") from None
    with given.client() as client:
        done = client.call(MovedHost, "POST", route("hosts", host, "move"), body=order)
    if given.json:
        output.data(done)
        return
    for line in (*done.changes.lines, *(f"note: {note}" for note in done.changes.notes)):
        output.say(line)
    asked = f"{host}: moved to the new machine; let it boot: 'provision window {host}'"
    output.say("dry run, nothing is changed" if dry_run else asked)
    output.say("Change the inventory files, too, or the next apply changes it back:")
    output.text(fragment(done.host, done.interfaces).rstrip())
    output.text(f"    uuid: {done.uuid}" if done.uuid else "    # and no 'uuid', or the one of the new machine")


def _ended(done: Compromised) -> list[str]:
    """What has ended, and what is left to do."""
    ended = [
        "its window is closed" if done.window else "",
        f"links revoked: {done.links}" if done.links else "",
        f"tokens revoked: {', '.join(done.tokens)}" if done.tokens else "",
        f"boots cancelled: {done.boots}" if done.boots else "",
        "its TPM is removed" if done.tpm else "",
        "its disk has only ciphertext, which its own TPM opens" if done.sealed else "",
    ]
    said = "; ".join(filter(None, ended)) or "nothing was open"
    lines = [f"{done.host}: declared compromised ({said})"]
    if not done.exposed:
        return [*lines, "it has no credentials, so nothing keeps it from booting again"]
    lines.append("it gets nothing until each of these has new content:")
    return lines + [f"  provision credential set {done.host} {name} --file FILE" for name in done.exposed]
