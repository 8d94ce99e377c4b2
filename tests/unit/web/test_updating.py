"""The routes of updates: what a host does not take in time ends; tests/unit/service/test_updates.py has the rest."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.types import Receive

from provision.web import updating
from tests.helpers.site_fixture import site


def test_a_piece_that_is_not_taken_ends_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updating, "_SECONDS", 0.05)
    sent: list[Any] = []

    async def never(message: Any) -> None:
        sent.append(message["type"])
        await asyncio.Event().wait()

    with site(tmp_path) as here:
        turn = ExitStack()
        turn.enter_context(here.service.updates.turn("n1"))
        with pytest.raises(ConnectionAbortedError):
            asyncio.run(updating._Piece(b"x", turn)({"type": "http"}, cast(Receive, None), never))
        assert sent == ["http.response.start"] and here.service.updates._served == set()
