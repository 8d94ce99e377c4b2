"""host compromised: what is done with a host that is no longer what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provision.cli import output
from provision.cli.arguments import HostName, route
from provision.cli.context import context

if TYPE_CHECKING:
    from provision.api.hosts import Compromised


def compromised(host: HostName) -> None:
    """End all access to a host's media, and mark its credentials as exposed.

    Its window, links, boots and downloads end, and tokens that are for it alone are revoked. It gets nothing until each
    of its credentials has new content.
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


def _ended(done: Compromised) -> list[str]:
    """What has ended, and what is left to do."""
    ended = [
        "its window is closed" if done.window else "",
        f"links revoked: {done.links}" if done.links else "",
        f"tokens revoked: {', '.join(done.tokens)}" if done.tokens else "",
        f"boots cancelled: {done.boots}" if done.boots else "",
    ]
    said = "; ".join(filter(None, ended)) or "nothing was open"
    lines = [f"{done.host}: declared compromised ({said})"]
    if not done.exposed:
        return [*lines, "it has no credentials, so it may boot again as soon as a window is open"]
    lines.append("it gets nothing until each of these has new content:")
    return lines + [f"  provision credential set {done.host} {name} --file FILE" for name in done.exposed]
