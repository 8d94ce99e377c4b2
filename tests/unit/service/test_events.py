"""What an entry of the audit log is to a receiver."""

from __future__ import annotations

import json

import pytest

from provision.service.events import body_of, kind_of
from provision.settings import EVENTS
from provision.store.fields import Entry


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"event": "decision", "answer": "released"}, "released"),
        ({"event": "decision", "answer": "denied", "rule": "netboot-never"}, "denied"),
        ({"event": "decision", "answer": "denied", "rule": "unknown-host"}, "unknown-machine"),
        ({"event": "window-opened"}, "window-opened"),
        ({"event": "begun", "subject": "window-opened"}, None),
        ({"event": "failed", "subject": "window-opened"}, None),
        ({"event": "segment"}, None),
        ({"event": "audit-read"}, None),
    ],
)
def test_entries_have_kinds(entry: Entry, kind: str | None) -> None:
    assert kind_of(entry) == kind
    assert kind is None or kind in EVENTS


def test_a_body_has_the_entry() -> None:
    entry: Entry = {"seq": 7, "time": "2026-03-01T12:00:00.000000Z", "event": "up", "host": "node1", "generation": 3}
    assert json.loads(body_of("up", entry)) == {
        "type": "up",
        "timestamp": "2026-03-01T12:00:00.000000Z",
        "data": {"seq": 7, "host": "node1"},
    }
