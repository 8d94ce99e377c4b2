"""What all requests and answers have in common, and how one that came from elsewhere differs from one that is ours.

A client trusts no answer: anyone who can put a socket in the service's place, or holds the service, must not
reach the operator's machine by it. So names are names, sizes have bounds, and text that was `RECEIVED` is one line of
printable characters. The service writes the same models as they are.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any

from pydantic import (
    Base64Encoder,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EncodedBytes,
    Field,
    StringConstraints,
    ValidationInfo,
)

RECEIVED = {"received": True}
"""The validation context of what a stranger may have written."""
MAX_MEDIUM = 1 << 40
"""Bytes of a medium."""
_MAX_TEXT = 64 << 10


def _line(value: Any, info: ValidationInfo) -> Any:
    """Text that was received, on one line, with nothing that a terminal acts on; anything else as it is."""
    if info.context is not RECEIVED or not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() else "?" for c in " ".join(value[:_MAX_TEXT].split()))


class _OneLine(Base64Encoder):
    """Base64 (RFC 4648) without line ends; with line ends it is taken, too."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """`value` as one line."""
        return b64encode(value)


Line = Annotated[str, BeforeValidator(_line)]
"""Text for people. As it was written by the service; on one line and harmless when it was received."""
Time = Line
"""A moment as ISO 8601 has it, with its zone."""
ETag = Annotated[str, StringConstraints(pattern=r'^"[A-Za-z0-9._:/+=-]{1,200}"$')]
"""A strong entity tag (RFC 9110 section 8.8.3)."""
Bytes = Annotated[bytes, EncodedBytes(encoder=_OneLine)]
"""Bytes as base64, since they may not be UTF-8."""
Size = Annotated[int, Field(ge=0, le=MAX_MEDIUM)]
"""Bytes of a file or a medium."""
Count = Annotated[int, Field(ge=0)]


class Request(BaseModel):
    """A request's body; unknown members are refused, and no message repeats what was sent."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Answer(BaseModel):
    """What the service answers. A client leaves out members that its release does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


def examples(*values: Any) -> ConfigDict:
    """The configuration of a model with these examples, as JSON has them."""
    return ConfigDict(json_schema_extra={"examples": list(values)})
