"""Measurements in words, for people who compare what was booted with what was to be."""

from __future__ import annotations

from provision.tpm.event_log import Event, EventType

_LONGEST = 160


def difference(events: tuple[Event | None, Event | None] | None) -> str:
    """The first event that is another, as `event_log.differing` has found it."""
    if events is None:
        return "every event is the same, but the value differs: something was measured after the log was read"
    expected, found = events
    if expected is None:
        return f"no further event was expected, but it measured {named(found)}"
    if found is None:
        return f"{named(expected)} was expected, but it measured nothing more"
    return f"{named(expected)} was expected, but it measured {named(found)}"


def named(event: Event | None) -> str:
    """An event in words. What a firmware says of one is not to be believed, and harmless."""
    if event is None:
        return "nothing"
    text = "".join(chr(byte) if 32 <= byte < 127 else "" for byte in event.data)[:_LONGEST]
    if event.kind in (EventType.IPL, EventType.EFI_ACTION) and text:
        return f"'{text}' ({event.digest.hex()[:16]})"
    try:
        kind = EventType(event.kind).name.lower().replace("_", " ")
    except ValueError:
        kind = f"event {event.kind:#x}"
    return f"{kind} {event.digest.hex()[:16]}"
