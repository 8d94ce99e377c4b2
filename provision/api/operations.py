"""Operations: work that takes longer than a request should."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from provision.api.images import Image
from provision.api.media import MediumDescription
from provision.api.problem import ProblemDocument
from provision.api.wire import Answer, Line, Time, examples
from provision.model import Name

MOST_WAIT = 60
"""Seconds that a request may wait for an operation's end."""

OperationId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]


class OperationState(StrEnum):
    """How far an operation is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class OperationProgress(Answer):
    """What is being done now, and the part of the whole that is done."""

    stage: Line
    fraction: float = Field(ge=0.0, le=1.0)


Result = Image | MediumDescription
"""What may come of an operation."""


class Operation(Answer):
    """An operation: what it does (`kind`) to which host or image, for whom, what it has done so far (`steps`), how far
    it is, what came of it, and why it failed. One that is `cancelled` undoes what it can until it ends. The service
    keeps it for a while after its end, and forgets it when it restarts."""

    model_config = examples(
        {
            "id": "3f9a1c2b7d4e",
            "kind": "power cycle",
            "host": "node1",
            "image": None,
            "by": "uid=0",
            "state": "running",
            "cancelled": False,
            "started": "2026-03-01T12:00:00+00:00",
            "ended": None,
            "steps": ["off"],
            "progress": None,
            "result": None,
            "problem": None,
        }
    )

    id: OperationId
    kind: Line
    host: Name | None
    image: Name | None
    by: Line
    state: OperationState
    cancelled: bool
    started: Time
    ended: Time | None
    steps: tuple[Line, ...]
    progress: OperationProgress | None
    result: Result | None
    problem: ProblemDocument | None
