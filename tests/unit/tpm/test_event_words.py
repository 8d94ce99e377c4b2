"""Measurements in words: harmless ones, whatever a firmware has put there."""

from __future__ import annotations

import pytest

from provision.tpm.event_log import Event, EventType
from provision.tpm.event_words import difference, named

BOOT = Event(8, EventType.IPL, b"\xab" * 32, b"grub_cmd: boot")
PROGRAM = Event(4, EventType.EFI_BOOT_SERVICES_APPLICATION, b"\xcd" * 32, b"\0\1")


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        (BOOT, None, "'grub_cmd: boot' (abababababababab) was expected, but it measured nothing more"),
        (
            None,
            PROGRAM,
            "no further event was expected, but it measured efi boot services application cdcdcdcdcdcdcdcd",
        ),
        (
            PROGRAM,
            BOOT,
            "efi boot services application cdcdcdcdcdcdcdcd was expected, but it measured"
            " 'grub_cmd: boot' (abababababababab)",
        ),
    ],
)
def test_a_difference_names_both(expected: Event | None, found: Event | None, said: str) -> None:
    assert difference((expected, found)) == said


def test_values_that_differ_without_an_event_were_measured_behind_the_log() -> None:
    assert "something was measured after the log was read" in difference(None)


def test_a_text_is_short_and_printable_and_an_unknown_kind_is_a_number() -> None:
    assert (
        named(Event(4, EventType.EFI_ACTION, bytes(32), b"\x1b[31m" + b"x" * 500)) == f"'[31m{'x' * 156}' ({'0' * 16})"
    )
    assert named(Event(4, 0x77, bytes(32), b"text")) == f"event 0x77 {'0' * 16}"
    assert named(None) == "nothing"
