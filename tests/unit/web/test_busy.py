"""While one thread writes to a disk, the event loop goes on: whoever needs the writer's lock waits in a thread."""

from __future__ import annotations

import asyncio
import threading
from operator import attrgetter
from pathlib import Path

import pytest

from provision.web import boot_app
from tests.helpers.site_fixture import IP, MAC1, STRANGER, ask, edge, site

UUID = "12345678-1234-1234-1234-123456789abc"


@pytest.mark.parametrize("lock", ["store.database.lock", "audit._lock"])
@pytest.mark.parametrize("peer", [IP[MAC1], IP[STRANGER]])
@pytest.mark.parametrize("name", [f"01-{MAC1.replace(':', '-')}", UUID])
def test_the_loop_goes_on_while_somebody_writes(tmp_path: Path, lock: str, peer: str, name: str) -> None:
    with site(tmp_path) as here:
        here.window()
        app = boot_app.create(here.service.netboot, edge())
        held = attrgetter(lock)(here.service.core)
        has, may_end, went_on = threading.Event(), threading.Event(), list[bool]()

        def write() -> None:
            with held:
                has.set()
                went_on.append(may_end.wait(5))

        async def run() -> int:
            asked = asyncio.create_task(ask(app, "GET", f"/pxe/pxelinux.cfg/{name}", peer=peer))
            await asyncio.sleep(0.05)
            may_end.set()
            return (await asked).status

        writer = threading.Thread(target=write)
        writer.start()
        assert has.wait(5)
        assert asyncio.run(run()) in (200, 404)
        writer.join()
        assert went_on == [True]
