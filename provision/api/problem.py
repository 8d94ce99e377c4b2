"""Problem documents (RFC 9457): how every operation says what is wrong."""

from __future__ import annotations

from pydantic import Field

from provision.api.wire import Answer, Line, examples
from provision.errors import Exit, ProvisionError

MEDIA_TYPE = "application/problem+json"


class ProblemRow(Answer):
    """One of the problems of an input: where it is, what is so, and the way out."""

    file: Line
    line: int = Field(ge=0)
    path: Line
    fact: Line
    remedy: Line = ""


class ProblemDocument(Answer):
    """An error: the object, the fact and the way out; `exit` is the command line's exit code.

    `rule` names the rule of a denial, and `problems` has all that is wrong with an input.
    """

    model_config = examples(
        {
            "type": "about:blank#not-found",
            "title": "not-found",
            "status": 404,
            "detail": "node9: no host of this name is in the inventory; see 'provision host list'",
            "subject": "node9",
            "fact": "no host of this name is in the inventory",
            "remedy": "see 'provision host list'",
            "exit": 5,
        }
    )

    type: Line = "about:blank"
    title: Line = "failed"
    status: int = 500
    detail: Line = ""
    subject: Line = "server"
    fact: Line = ""
    remedy: Line = ""
    exit: Exit = Exit.FAILED
    rule: Line = ""
    problems: tuple[ProblemRow, ...] | None = None

    @classmethod
    def of(cls, error: ProvisionError) -> ProblemDocument:
        """The document of an error."""
        return cls.model_validate(error.details())
