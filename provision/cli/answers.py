"""What the service answers, parsed: the command line, which root runs, trusts none of it.

Whoever can put a socket of theirs in the service's place, or holds the service, must not reach the operator's machine
by it: names are names, sizes have bounds, and text is one line of printable characters.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from provision.errors import Exit, Problem, Problems, ProvisionError, Unavailable
from provision.model import ContentId, Mac, Name, UploadId

MAX_VALUES = 3_000_000
"""Values of one answer: an inventory of ten thousand hosts has some hundred thousand."""
MAX_MEDIUM = 1 << 40
"""Bytes of a medium."""
_MAX_TEXT = 64 << 10

_Shape = TypeVar("_Shape")


def _line(value: Any) -> Any:
    """Text on one line, with nothing that a terminal acts on; anything else as it is."""
    if not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() else "?" for c in " ".join(value[:_MAX_TEXT].split()))


Line = Annotated[str, BeforeValidator(_line)]
ETag = Annotated[str, StringConstraints(pattern=r'^"[A-Za-z0-9._:/+=-]{1,200}"$')]
Rows = list[dict[str, Any]]
"""Rows for a table; each value goes through `provision.cli.output`, which makes it harmless."""


class Answer(BaseModel):
    """Members that this release does not know are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Difference(Answer):
    """What an inventory changes."""

    lines: tuple[Line, ...]
    notes: tuple[Line, ...] = ()
    site: list[Any]
    confirm: bool
    added: list[Any]
    changed: dict[str, Any]
    removed: list[Any]


class Described(Answer):
    """A medium: its entity tag, SHA-256 and size in bytes."""

    etag: ETag
    sha256: ContentId
    size: int = Field(ge=0, le=MAX_MEDIUM)


class Selected(Answer):
    """A host of a batch: its name becomes a file's."""

    name: Name
    macs: tuple[Mac, ...]


class Upload(Answer):
    """An upload's id."""

    id: UploadId


class Image(Answer):
    """A base image that was imported."""

    id: ContentId
    kernel: Line
    signing: Line


class Step(Answer):
    """A step of a long request: what is being done and how far it is, or its end."""

    stage: Line | None = None
    fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    image: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None


class OpenWindow(Answer):
    """A window of a host."""

    open: bool
    boots: int
    used: int
    expires: Line


class Alert(Answer):
    """Something about a host that its operator should look at."""

    event: Line
    text: Line
    count: int
    last: Line


class HostStatus(Answer):
    """How far a host has come; `parts` in percent."""

    host: Line
    stage: Line
    parts: dict[str, int]
    medium: Line | None
    network: Line | None
    window: OpenWindow | None
    alerts: tuple[Alert, ...]


class Unknown(Answer):
    """A machine that is in no inventory."""

    mac: Line
    uuid: Line | None
    network: Line | None
    last: Line
    count: int


class Status(Answer):
    """Every host, the unknown machines, why nothing is given away, and what warns of that."""

    hosts: tuple[HostStatus, ...]
    unknown: tuple[Unknown, ...]
    problems: tuple[Line, ...]
    warnings: tuple[Line, ...]


class Verified(Answer):
    """The state of the audit log's chain."""

    ok: bool
    entries: int
    problems: tuple[Line, ...]
    starts: int


class BelievedStore(Answer):
    """The database as an operator accepted it, and what was wrong with it."""

    was: Line
    generation: int
    hosts: int


class BelievedClock(Answer):
    """The clock as an operator accepted it: the latest time before, and now."""

    was: Line
    now: Line


class Finding(Answer):
    """What DNS says otherwise."""

    subject: Line
    fact: Line
    remedy: Line


class Version(Answer):
    """A credential's new version."""

    version: int


def shaped(kind: type[_Shape], value: object) -> _Shape:
    """`value` as that; raises Unavailable when it is anything else."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        raise foreign() from None


def foreign(fact: str = "gave an answer that this release does not know") -> Unavailable:
    """The error for an answer that is none."""
    return Unavailable("service", fact, "restart it after an upgrade; else find out who answers on its socket")


def decoded(data: bytes) -> Any:
    """JSON as its value; raises Unavailable for what is none, or has too many values."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise foreign("gave an answer with too many values")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise foreign() from None


class RemoteError(ProvisionError):
    """A problem document from the application, as the error it was made of."""

    def __init__(self, document: _Document) -> None:
        super().__init__(document.subject, document.fact or document.detail or "failed", document.remedy)
        self.status, self.exit, self.rule = document.status, document.exit, document.rule
        self.kind = document.title

    def details(self) -> dict[str, Any]:
        """The document's own members."""
        return super().details() | ({"rule": self.rule} if self.rule else {})


class _Problem(Answer):
    file: Line
    line: int = Field(ge=0)
    path: Line
    fact: Line
    remedy: Line = ""


class _Document(Answer):
    """A problem document (RFC 9457) of ours."""

    title: Line = "failed"
    status: int = 500
    subject: Line = "server"
    fact: Line = ""
    detail: Line = ""
    remedy: Line = ""
    exit: Exit = Exit.FAILED
    rule: Line = ""
    problems: tuple[_Problem, ...] | None = None


def error_of(value: object) -> ProvisionError:
    """The error that a problem document describes."""
    document = shaped(_Document, value)
    if document.problems:
        return Problems((Problem(**problem.model_dump()) for problem in document.problems), document.subject)
    return RemoteError(document)
