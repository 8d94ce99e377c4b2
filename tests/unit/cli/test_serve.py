"""How the process of a service ends."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path

import pytest

from provision.cli import context
from provision.cli.context import Context
from provision.cli.serve import serve
from provision.errors import Unavailable


class Ended(BaseException):
    """The process has ended, with this code."""


@pytest.fixture
def done(state: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What happens, in order, instead of serving and of an end of this process."""
    happened: list[object] = []

    def end(code: int) -> None:
        happened.append(code)
        raise Ended

    monkeypatch.setattr(context, "_current", Context(state, None, False))
    monkeypatch.setattr("provision.server.run.run", lambda settings: happened.append(settings.state))
    monkeypatch.setattr(logging, "shutdown", lambda: happened.append("all is written"))
    monkeypatch.setattr(os, "_exit", end)
    return happened


def test_no_thread_sees_the_end_of_the_interpreter(done: list[object], state: Path) -> None:
    with pytest.raises(Ended):
        serve()
    assert done == [state, "all is written", 0] and gc.isenabled()


def test_what_cannot_be_served_ends_by_its_error(done: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: object) -> None:
        raise Unavailable("mgmt", "is not there")

    monkeypatch.setattr("provision.server.run.run", refuse)
    with pytest.raises(Unavailable):
        serve()
    assert done == []
