"""The steps of a boot, and what undoes them."""

from __future__ import annotations

import pytest

from provision.bmc.vendors import Via
from provision.service.boot_plan import Begun, Step, steps, to_undo


def test_what_gives_something_comes_before_what_uses_it() -> None:
    assert steps(Via.CD) == (Step.LINK, Step.MEDIUM, Step.ONCE, Step.POWER)
    assert steps(Via.PXE) == steps(Via.HTTP_BOOT) == (Step.WINDOW, Step.ONCE, Step.POWER)


@pytest.mark.parametrize("via", list(Via))
@pytest.mark.parametrize("was_off", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_all_that_has_begun_is_undone_and_nothing_else(via: Via, was_off: bool, up: bool) -> None:
    for count in range(len(steps(via)) + 1):
        begun = steps(via)[:count]
        undone = to_undo([Begun(step) for step in begun], was_off, up)
        expected = (s for s in begun[::-1] if s is not Step.POWER or (was_off and not up))
        assert undone == tuple(map(Begun, expected))


@pytest.mark.parametrize(
    ("text", "begun"),
    [
        ("link", Begun(Step.LINK)),
        ("window:12", Begun(Step.WINDOW, "12")),
        ("medium:https://[fd00::1]:444/1", Begun(Step.MEDIUM, "https://[fd00::1]:444/1")),
    ],
)
def test_the_journal_has_a_step_and_with_what(text: str, begun: Begun) -> None:
    assert Begun.parse(text) == begun and str(begun) == text and " " not in text
