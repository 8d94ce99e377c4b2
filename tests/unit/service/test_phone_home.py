"""A host that says that it is up: what cannot be recorded does not happen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Copy, Medium
from provision.errors import Conflict, Unavailable
from provision.store.keys import load_key
from provision.store.rows import HISTORY
from provision.store.store import Store
from tests.helpers.site_fixture import Site, charged, origin, seed_url, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.window()
        yield opened


def key_of(here: Site, medium: Medium) -> bytes:
    """The key that a host has which was started with that medium."""
    core = here.service.core
    if medium is Medium.PXE:
        charged(here.service.netboot.seed(origin(), seed_url(here)))
        return core.store.keys.phone_home(core.store.boots.of("node1")[0].id, "node1").reveal()
    return core.store.keys.of_copy(Copy("node1", medium, core.state("node1").identity[:32])).reveal()


@pytest.mark.parametrize("medium", [Medium.PXE, Medium.ISO, Medium.DISK])
def test_without_a_record_nothing_changes_and_the_host_may_say_it_again(
    here: Site, monkeypatch: pytest.MonkeyPatch, medium: Medium
) -> None:
    key, core, phone_home = key_of(here, medium), here.service.core, here.service.netboot.phone_home
    before = core.store.windows.of("node1"), core.store.boots.of("node1")

    def full(*args: Any, **kwargs: Any) -> None:
        raise Unavailable("audit.log", "the audit log cannot be written")

    with monkeypatch.context() as broken:
        broken.setattr(core.audit, "record", full)
        with pytest.raises(Unavailable):
            phone_home.up("node1", key)
    assert (core.store.windows.of("node1"), core.store.boots.of("node1")) == before
    assert phone_home.up("node1", key).up == here.clock.now
    for _ in range(2):
        with pytest.raises(Conflict):
            phone_home.up("node1", key)
    assert len(here.audit("up")) == 1


@pytest.mark.parametrize("medium", [Medium.ISO, Medium.DISK])
def test_the_key_of_a_copy_is_good_once_however_many_others_came_up_since(here: Site, medium: Medium) -> None:
    """A host that is sent out with the first medium says that it is up, and is replaced again and again."""
    core, phone_home = here.service.core, here.service.netboot.phone_home
    keys = [
        core.store.keys.of_copy(Copy("node1", medium, f"{number:032x}")).reveal() for number in range(HISTORY * 2 + 2)
    ]
    for key in keys:
        phone_home.up("node1", key)
        here.clock.advance(seconds=1)
    for key in (keys[0], keys[1], keys[HISTORY], keys[-1]):
        with pytest.raises(Conflict):
            phone_home.up("node1", key)
    assert len(here.audit("up")) == len(keys)
    assert len(core.store.boots.of("node1")) == HISTORY
    with Store.open(here.state, load_key(here.state)) as again:
        assert again.boots.mark_copy_up(Copy("node1", medium, f"{0:032x}"), here.clock.now) is None
