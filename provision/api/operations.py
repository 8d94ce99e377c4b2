"""Operations: work that takes longer than a request should."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

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


class Operation(Answer):
    """An operation: what it does (`kind`) to which host, for whom, what it has done so far (`steps`), and why it
    failed. The service keeps it for a while after its end, and forgets it when it restarts."""

    model_config = examples(
        {
            "id": "3f9a1c2b7d4e",
            "kind": "power cycle",
            "host": "node1",
            "by": "uid=0",
            "state": "running",
            "started": "2026-03-01T12:00:00+00:00",
            "ended": None,
            "steps": ["off"],
            "problem": None,
        }
    )

    id: OperationId
    kind: Line
    host: Name
    by: Line
    state: OperationState
    started: Time
    ended: Time | None
    steps: tuple[Line, ...]
    problem: ProblemDocument | None
