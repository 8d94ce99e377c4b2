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

    Its type is webhook-test, and nothing has caused it.
    """
    from provision.api.webhooks import Tested

    given = context()
    with given.client() as client:
        done = client.call(Tested, "POST", route("webhooks", name, "test"))
    if given.json:
        output.data(done)
    else:
        output.say(f"{name}: has taken a test event")


def replay(
    name: WebhookName,
    first: Annotated[int, typer.Option("--from", metavar="SEQ", min=1, help="The first entry of the audit log")],
) -> None:
    """Tell a receiver of events again.

    It hears of every event from that entry of the audit log on, in order, with the ids that they had before.
    """
    from provision.api.webhooks import Replay, Replayed

    given = context()
    with given.client() as client:
        done = client.call(Replayed, "POST", route("webhooks", name, "replay"), body=Replay(first=first))
    if given.json:
        output.data(done)
    else:
        output.say(f"{name}: is told again of what happened from entry {done.first} to {done.last}")
