"""Receivers of events: trying them, and telling them again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from provision.api.wire import Answer, Count, Request, examples
from provision.model import Name


class Tested(Answer):
    """The receiver has taken an event of the type `webhook-test`."""

    model_config = examples({"name": "desk", "taken": True})

    name: Name
    taken: bool


class Replay(Request):
    """From which entry of the audit log on the receiver is told again."""

    model_config = examples({"first": 1200})

    first: Annotated[int, Field(ge=1, le=10**18)]


class Replayed(Answer):
    """The receiver is told again of all events from the entry `first` on; `last` was the newest then."""

    model_config = examples({"name": "desk", "first": 1200, "last": 1310})

    name: Name
    first: Count
    last: Count
