"""What an entry of the audit log is to a receiver."""

from __future__ import annotations

import json

import pytest

from provision.service.events import body_of, kind_of, line_of
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


def test_who_fetches_while_the_host_is_up_is_an_event_of_its_own() -> None:
    assert kind_of({"event": "decision", "answer": "denied", "rule": "host-is-up"}) == "fetched-while-up"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("node1", "node1"),
        ("10.0.0.1", "10.0.0.1"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('"', '"\\""'),
        ("a\nstuck host=x", '"a\\nstuck host=x"'),
        ("\x1b[2J\u2028\u202e", '"\\u001b[2J\\u2028\\u202e"'),
        ("", '""'),
    ],
)
def test_a_line_is_one_line_of_fields(value: str, shown: str) -> None:
    entry: Entry = {"seq": 7, "time": "2026-03-01T12:00:00Z", "event": "denied", "generation": 3, "subject": value}
    line = line_of("denied", entry)
    assert line == f"denied seq=7 subject={shown}"
    assert line.isascii() and line.isprintable()
