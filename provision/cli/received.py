"""What the service answers, as the API's models: the command line, which root runs, trusts none of it.

Anyone who can put a socket in the service's place, or holds the service, must not reach the operator's machine
by it. `provision.api.wire` says what a model does with what was received.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from provision.api.problem import ProblemDocument
from provision.api.wire import RECEIVED
from provision.errors import Problem, Problems, ProvisionError, Unavailable

MAX_VALUES = 3_000_000
"""Values of one answer: an inventory of ten thousand hosts has some hundred thousand."""

_Shape = TypeVar("_Shape")


def received(kind: type[_Shape], data: bytes) -> _Shape:
    """JSON as a `kind`; raises Unavailable when it is anything else, or has too many values."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise foreign("gave an answer with too many values")
    try:
        return TypeAdapter(kind).validate_json(data, strict=True, context=RECEIVED)
    except ValidationError:
        raise foreign() from None


def foreign(fact: str = "gave an answer that this release does not know") -> Unavailable:
    """The error for an answer that is none."""
    return Unavailable("service", fact, "restart it after an upgrade; else find out who answers in its place")


class RemoteError(ProvisionError):
    """A problem document from the application, as the error it was made of."""

    def __init__(self, document: ProblemDocument) -> None:
        super().__init__(document.subject, document.fact or document.detail or "failed", document.remedy)
        self.status, self.exit, self.rule = document.status, document.exit, document.rule
        self.kind = document.title

    def details(self) -> dict[str, Any]:
        """The document's own members."""
        return super().details() | ({"rule": self.rule} if self.rule else {})


def error_of(document: ProblemDocument) -> ProvisionError:
    """The error that a problem document describes."""
    if document.problems:
        return Problems((Problem(**problem.model_dump()) for problem in document.problems), document.subject)
    return RemoteError(document)
