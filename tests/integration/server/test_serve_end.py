"""In which order a service ends: connections first, and then the addresses that they went to are let go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from provision.net.pins import Helper
from provision.server import run
from provision.web.servers import Servers
from tests.helpers.site_fixture import settings, site


def test_addresses_are_let_go_when_every_connection_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []

    class Noted:
        def __init__(self, *_: object) -> None:
            self.ended = asyncio.Event()

        def stop(self) -> None:
            done.append("lost")

        def close(self) -> None:
            done.append("let go")

    close = Servers.close

    async def closing(servers: Servers) -> None:
        await close(servers)
        done.append("closed")

    async def at_once(servers: Servers) -> None:
        """A signal comes."""

    monkeypatch.setattr(run, "Pins", Noted)
    monkeypatch.setattr(Servers, "close", closing)
    monkeypatch.setattr(Servers, "serve", at_once)
    with site(tmp_path) as here:
        monkeypatch.setattr(here.service.core, "settings", settings(here.state, listen=()))
        helper = Helper(cast(Any, None), cast(Any, None))
        asyncio.run(run._serve(here.service, helper))
    assert done == ["lost", "closed", "let go"]
