"""Answers that are none: whatever comes is a model of the API, or one error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provision.api.hosts import HostRow
from provision.api.images import DamagedImage, Image
from provision.api.problem import ProblemDocument
from provision.api.status import Health
from provision.cli import received as parsing
from provision.cli.output import members
from provision.cli.received import RemoteError, error_of, received
from provision.errors import Exit, Problem, Problems, Unavailable

ROW: dict[str, Any] = {
    "name": "node1",
    "macs": ["52:54:00:00:00:01"],
    "install": "it",
    "addressing": None,
    "storage": "none",
    "netboot": "never",
    "labels": {},
}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"nonsense", b"[" * 100_000, b'{"a": "\xff\xfe"}', b"[" + b"9" * 100_000 + b"]", b"null", b"{}", b"[1]"),
        *(json.dumps([ROW | {name: value}]).encode() for name, value in (("macs", "x"), ("labels", []), ("name", 1))),
        b'[{"name": "node1"}]',
        json.dumps([ROW]).encode() + b"x",
    ],
    ids=lambda data: ascii(data)[:24],
)
def test_what_is_no_answer_is_one_error(data: bytes) -> None:
    with pytest.raises(Unavailable, match="that this release does not know"):
        received(list[HostRow], data)


def test_an_answer_has_so_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MAX_VALUES", 20)
    assert received(list[HostRow], json.dumps([ROW]).encode())[0].name == "node1"
    with pytest.raises(Unavailable, match="too many values"):
        received(list[HostRow], json.dumps([ROW] * 4).encode())


def test_an_answer_is_printed_with_the_members_that_came() -> None:
    assert [members(row) for row in received(list[HostRow], json.dumps([ROW | {"later": 1}]).encode())] == [ROW]
    health = {"hosts": 1, "listeners": {"mgmt": "a\x1b[2J"}, "problems": []}
    assert members(received(Health, json.dumps(health).encode())) == health | {"listeners": {"mgmt": "a?[2J"}}


def test_an_image_is_whole_or_damaged() -> None:
    damaged = {"name": "base", "id": "a" * 64, "problem": "kernel: is damaged"}
    (found,) = received(list[Image | DamagedImage], json.dumps([damaged]).encode())
    assert isinstance(found, DamagedImage) and members(found) == damaged


def test_a_problem_is_the_error_it_was_made_of() -> None:
    document = {"title": "denied", "status": 403, "subject": "a", "fact": "b", "remedy": "c", "exit": 4, "rule": "d"}
    error = error_of(received(ProblemDocument, json.dumps(document).encode()))
    assert isinstance(error, RemoteError) and (str(error), error.exit, error.kind) == ("a: b; c", Exit.DENIED, "denied")
    assert error.details()["rule"] == "d"
    rows = [{"file": "x", "line": n, "path": "p", "fact": "f"} for n in (2, 1)]
    many = error_of(received(ProblemDocument, json.dumps({"subject": "s", "problems": rows}).encode()))
    assert isinstance(many, Problems) and many.problems == (Problem("x", 1, "p", "f"), Problem("x", 2, "p", "f"))
