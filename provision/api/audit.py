"""The audit log, and what an operator takes as it is: the store, the clock."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from provision.api.wire import Answer, Count, Line, Request, Time, examples

FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,31}$")]


class AuditEntry(RootModel[dict[FieldName, int | Line]]):
    """One entry with the fields that it has, in the order in which it was written."""

    model_config = ConfigDict(
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "seq": 7,
                    "time": "2026-03-01T12:00:00.000Z",
                    "event": "window-opened",
                    "of": 6,
                    "operator": "uid=0",
                    "host": "node1",
                    "minutes": 60,
                    "boots": 1,
                }
            ]
        },
    )

    def get(self, name: str) -> int | str | None:
        """A field, or None."""
        return self.root.get(name)


class Verified(Answer):
    """The state of the audit log's chain: how many entries it has, which one is its first, and what is wrong."""

    model_config = examples({"ok": True, "entries": 120, "starts": 1, "problems": []})

    ok: bool
    entries: Count
    starts: Count
    problems: tuple[Line, ...]


class Accept(Request):
    """Why an operator takes something as it is."""

    model_config = examples({"reason": "restored from last night's backup"})

    reason: str = Field(max_length=4096)


class AcceptedStore(Answer):
    """The database as an operator accepted it: what was wrong with it ("" when nothing was), its generations, and how
    many hosts it has."""

    model_config = examples({"was": "is older than the audit log says", "before": 41, "generation": 42, "hosts": 3})

    was: Line
    before: Count
    generation: Count
    hosts: Count


class AcceptedClock(Answer):
    """The clock as an operator accepted it: the latest time before, and now."""

    model_config = examples({"was": "2036-01-01T00:00:00+00:00", "now": "2026-03-01T12:00:00+00:00"})

    was: Time
    now: Time
