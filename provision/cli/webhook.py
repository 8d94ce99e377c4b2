"""webhook: try a receiver of events, and let it have events again."""

from __future__ import annotations

from typing import Annotated

import typer

from provision.cli import output
from provision.cli.arguments import route
from provision.cli.context import context

WebhookName = Annotated[str, typer.Argument(metavar="NAME", help="The webhook's name in provision.toml")]


def test(name: WebhookName) -> None:
    """Send a receiver an event, and say whether it takes it.

    The event's type is webhook-test. Nothing has happened.
    """
    from provision.api.webhooks import Tested

    given = context()
    with given.client() as client:
        done = client.call(Tested, "POST", route("webhooks", name, "test"))
    if given.json:
        output.data(done)
    else:
        output.say(f"{name}: took the test event")


def replay(
    name: WebhookName,
    first: Annotated[int, typer.Option("--from", metavar="SEQ", min=1, help="The first entry of the audit log")],
) -> None:
    """Send a receiver past events again.

    It gets every event from that entry of the audit log on, in order, with the same ids as before.
    """
    from provision.api.webhooks import Replay, Replayed

    given = context()
    with given.client() as client:
        done = client.call(Replayed, "POST", route("webhooks", name, "replay"), body=Replay(first=first))
    if given.json:
        output.data(done)
    else:
        output.say(f"{name}: gets the events of entries {done.first} to {done.last} again")
