"""Errors are part of the interface: each names the object, the fact and the way out, on one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes of the command line; documented in docs/deployment.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INVALID = 3
    DENIED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    UNAVAILABLE = 7


class ProvisionError(Exception):
    """A failure a user can act on.

    `subject` names the object ("node7", "site.yaml:12"), `fact` says what is so, `remedy` says the way out.
    None of them ever holds a secret, and the rendered message is one line.
    """

    exit = Exit.FAILED
    status = 500
    kind = "failed"

    def __init__(self, subject: str, fact: str, remedy: str = "") -> None:
        self.subject, self.fact, self.remedy = (" ".join(part.split()) for part in (subject, fact, remedy))
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.subject}: {self.fact}"
        return f"{text}; {self.remedy}" if self.remedy else text

    def details(self) -> dict[str, Any]:
        """The members of a problem document (RFC 9457); `exit` is the command line's exit code."""
        return {
            "type": f"about:blank#{self.kind}",
            "title": self.kind,
            "status": self.status,
            "detail": str(self),
            "subject": self.subject,
            "fact": self.fact,
            "remedy": self.remedy,
            "exit": int(self.exit),
        }


class Invalid(ProvisionError):
    """Input that cannot be taken as it is."""

    exit, status, kind = Exit.INVALID, 422, "invalid"


class Usage(Invalid):
    """A command line that its help does not describe."""

    exit, status, kind = Exit.USAGE, 400, "usage"


class TooLarge(Invalid):
    """Input of more bytes than is ever needed; not read to its end."""

    status, kind = 413, "too-large"


class NotFound(ProvisionError):
    """A named object that does not exist."""

    exit, status, kind = Exit.NOT_FOUND, 404, "not-found"


class Conflict(ProvisionError):
    """A request that the present state does not allow."""

    exit, status, kind = Exit.CONFLICT, 409, "conflict"


class Gone(Conflict):
    """A revision that has been withdrawn."""

    status, kind = 410, "gone"


class Outdated(Conflict):
    """A change of what has been changed since by somebody else."""

    status, kind = 412, "precondition-failed"


class Denied(ProvisionError):
    """Policy said no; `rule` names the rule."""

    exit, status, kind = Exit.DENIED, 403, "denied"

    def __init__(self, subject: str, fact: str, remedy: str = "", rule: str = "") -> None:
        super().__init__(subject, fact, remedy)
        self.rule = rule

    def details(self) -> dict[str, Any]:
        """With the rule's name."""
        return {**super().details(), "rule": self.rule}


class Unauthenticated(ProvisionError):
    """Nobody knows who asks. What it says is the same whatever is wrong."""

    exit, status, kind = Exit.DENIED, 401, "unauthenticated"


class TooMany(ProvisionError):
    """The same was asked in vain too often; after `seconds` it may be asked again."""

    exit, status, kind = Exit.DENIED, 429, "too-many"

    def __init__(self, subject: str, fact: str, remedy: str, seconds: int) -> None:
        super().__init__(subject, fact, remedy)
        self.seconds = seconds


class Unavailable(ProvisionError):
    """An outside thing (disk, interface, store, tool) that does not work now."""

    exit, status, kind = Exit.UNAVAILABLE, 503, "unavailable"


@dataclass(frozen=True, order=True)
class Problem:
    """One problem of an input: where (`file`, 1-based `line`, dotted `path`), what is so, and the way out."""

    file: str
    line: int
    path: str
    fact: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{where}: {self.path}: {self.fact}" if self.path else f"{where}: {self.fact}"
        return " ".join((f"{text}; {self.remedy}" if self.remedy else text).split())


class Problems(Invalid):
    """All problems of one input at once, in the order of the file; `subject` names the input."""

    def __init__(self, problems: Iterable[Problem], subject: str = "inventory") -> None:
        self.problems = tuple(sorted(problems))
        if len(self.problems) == 1:
            (one,) = self.problems
            super().__init__(subject, f"1 problem: {replace(one, remedy='')}", one.remedy)
        else:
            shown = " | ".join(str(problem) for problem in self.problems[:3])
            super().__init__(subject, f"{len(self.problems)} problems: {shown}", "correct each of them")

    def details(self) -> dict[str, Any]:
        """With every problem."""
        return {**super().details(), "problems": [asdict(problem) for problem in self.problems]}
