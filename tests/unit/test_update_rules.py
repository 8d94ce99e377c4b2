"""What keeps a host from getting an update."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from provision.slots import Failure, HostSlots
from provision.update_rules import Updating, objection, revoked, unsigned

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
A, B, C = "0a" * 32, "0b" * 32, "0c" * 32
GETS = Updating("node1", True, HostSlots(f"a a {A} - idle", NOW), B)


def said(text: str) -> Updating:
    return replace(GETS, slots=HostSlots(text, NOW))


def failed(attempt: int, wanted: str = B) -> Updating:
    slots = HostSlots(f"a a {A} {B} idle", NOW, attempt, {B: Failure(1, "libvirt does not answer", NOW)})
    return replace(GETS, slots=slots, wanted=wanted)


@pytest.mark.parametrize(
    ("asks", "rule"),
    [
        (GETS, None),
        (replace(GETS, is_up=False), "not-up"),
        (replace(GETS, slots=None), "no-slots"),
        (replace(GETS, wanted=A), "no-update"),
        (replace(GETS, wanted=""), "no-update"),
        (said(f"a a {A} - fetching {B}"), None),
        (said(f"a a {A} {B} waiting {B}"), "no-update"),
        (replace(said(f"a a {A} {B} waiting {B}"), wanted=A), None),  # the trial is to be called off
        (said(f"b a {A} {B} trying {B}"), "no-update"),
        (replace(said(f"b a {A} {B} trying {B}"), wanted=A), "no-update"),  # it is proved or falls back first
        (said(f"a a {A} {B} refused it is not signed"), None),
        (failed(1), "update-failed"),
        (failed(2), None),
        (failed(1, C), None),
    ],
)
def test_the_first_objection(asks: Updating, rule: str | None) -> None:
    found = objection(asks)
    assert (found.rule if found else None) == rule
    assert found is None or str(found).endswith(".")


def test_a_base_image_that_nobody_has_signed_is_named_with_the_way_out() -> None:
    found = unsigned("node1", "debian-13")
    assert (found.rule, found.remedy) == ("incomplete", "Sign it: 'provision sb sign debian-13'")
    assert "no signed image of 'debian-13'" in found.reason


def test_a_base_image_that_is_revoked_is_named_with_the_way_out() -> None:
    found = revoked("node1", "debian-12")
    assert (found.rule, found.remedy) == ("chain-not-approved", "Import a newer image, and let node1 have it")
    assert "approval of 'debian-12', which node1 is to run, is revoked" in found.reason
