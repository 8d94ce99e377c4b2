"""What a BMC wrote is never more than one harmless line, and never of another kind than expected."""

from __future__ import annotations

from typing import Any

import pytest

from provision.bmc import documents


@pytest.mark.parametrize("value", [None, 1, [], {}, True, {"a": 1}])
def test_what_is_no_text_is_none(value: Any) -> None:
    assert documents.text({"a": value}, "a") == "" == documents.text({"a": value}, "a", "b")


def test_text_is_short_and_harmless() -> None:
    assert documents.text({"a": {"b": "x\x1b[31m\n\u202ey" + "z" * 100}}, "a", "b") == "x?[31m??y" + "z" * 71


@pytest.mark.parametrize("value", [None, "x", 3, {}, [1, None, {"@odata.id": 4}, {"x": "y"}]])
def test_references_to_nothing_are_none(value: Any) -> None:
    assert documents.paths({"Members": value}, "Members") == ()
    assert documents.path({"Members": value}, "Members") == ""


def test_lists_are_bounded() -> None:
    many = [{"@odata.id": f"/redfish/v1/{n}"} for n in range(1000)]
    assert len(documents.paths({"Members": many}, "Members")) == documents.MOST_MEMBERS
    assert documents.texts({"a": ["x" * 1000, 1, "y"]}, "a") == ("x" * 80, "y")
