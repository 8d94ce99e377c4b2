"""Windows and boots: as many boots as were allowed, however many ask at once."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from provision.boot import SAME_BOOT, Boot, Copy, Medium
from provision.errors import Invalid, NotFound, Unavailable
from provision.host import Addressing, BondMode, Interface, Netboot
from provision.store.rows import HISTORY
from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, mac, open_store

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path)
    store.hosts.apply(inventory(host(1), host(2, Netboot.ALWAYS), host(3, Netboot.NEVER)), ROOT)
    return store


def begin(store: Store, number: int = 1, now: datetime = NOW, revision: str = "r", nic: str | None = None) -> Boot:
    return store.boots.begin(f"n{number}", nic or mac(number), Medium.PXE, "mgmt", now, revision)


def test_a_window_has_limits(store: Store) -> None:
    window = store.windows.open("n1", 10, 2, NOW, ROOT)
    assert (window.boots, window.used, window.expires) == (2, 0, NOW + 10 * MINUTE)
    assert store.windows.of("n1") == window and store.windows.of("n2") is None
    for minutes, boots in ((0, 1), (10081, 1), (1, 0), (1, 101)):
        with pytest.raises(Invalid):
            store.windows.open("n1", minutes, boots, NOW, ROOT)
    with pytest.raises(NotFound):
        store.windows.open("n9", 1, 1, NOW, ROOT)


def test_charging_uses_the_window_up(store: Store, tmp_path: Path) -> None:
    store.windows.open("n1", 30, 2, NOW, ROOT)
    charged = store.boots.charge(begin(store), NOW)
    assert charged is not None and charged.charged == NOW and charged.window == 1
    second = NOW + SAME_BOOT
    assert store.boots.charge(begin(store, now=second), second)
    third = second + SAME_BOOT
    assert store.boots.charge(begin(store, now=third), third) is None
    window = store.windows.of("n1")
    assert window is not None and window.used == 2 and not window.is_open(third)
    store.close()
    with open_store(tmp_path) as again:
        assert again.windows.of("n1") == window
        assert [b.charged for b in again.boots.of("n1")] == [None, second, NOW]


def test_no_window_no_bytes(store: Store) -> None:
    boot = begin(store)
    assert store.boots.charge(boot, NOW) is None
    store.windows.open("n1", 1, 1, NOW, ROOT)
    assert store.boots.charge(boot, NOW + MINUTE) is None, "expired at its last moment"
    store.windows.open("n1", 1, 1, NOW, ROOT)
    store.windows.close("n1")
    assert store.boots.charge(boot, NOW) is None, "closed"
    store.windows.open("n1", 1, 1, NOW, ROOT)
    assert store.boots.charge(boot, NOW + MINUTE - SECOND)


def test_rereads_are_the_same_boot(store: Store) -> None:
    store.windows.open("n1", 60, 1, NOW, ROOT)
    boot = begin(store)
    assert store.boots.charge(boot, NOW)
    for delta in (SECOND, SAME_BOOT - SECOND):
        again = begin(store, now=NOW + delta)
        assert again.id == boot.id
        assert store.boots.charge(again, NOW + delta)
    assert store.boots.charge(boot, NOW + SAME_BOOT) is None, "after ten minutes it is another boot"


def test_a_clock_set_back_makes_nothing_free(store: Store) -> None:
    store.windows.open("n1", 60, 1, NOW, ROOT)
    boot = begin(store)
    assert store.boots.charge(boot, NOW)
    assert store.boots.charge(boot, NOW - SECOND)
    assert begin(store, now=NOW - SAME_BOOT).id > boot.id
    assert store.boots.charge(boot, NOW - SAME_BOOT) is None


def test_never_counts_at_once(store: Store) -> None:
    store.windows.open("n1", 60, 1, NOW, ROOT)
    boot = begin(store)
    assert store.boots.charge(boot, NOW)
    store.hosts.apply(inventory(host(1, Netboot.NEVER)), ROOT)
    assert store.boots.charge(boot, NOW + SECOND) is None


def test_a_free_reread_survives_a_restart(store: Store, tmp_path: Path) -> None:
    store.windows.open("n1", 60, 1, NOW, ROOT)
    boot = begin(store)
    store.boots.charge(boot, NOW)
    store.close()
    with open_store(tmp_path) as again:
        assert begin(again, now=NOW + MINUTE).id == boot.id
        assert again.boots.charge(boot, NOW + MINUTE)


def test_what_makes_another_boot(store: Store) -> None:
    boot = begin(store)
    assert begin(store).id == boot.id
    assert begin(store, revision="r2").id > boot.id, "another revision is never mixed into a boot"
    assert begin(store, now=NOW + SAME_BOOT).id > boot.id
    assert store.boots.begin("n1", mac(1), Medium.HTTP_BOOT, "mgmt", NOW, "r").id > boot.id
    assert store.boots.begin("n1", mac(1), Medium.PXE, "other", NOW, "r").id > boot.id
    with pytest.raises(NotFound):
        begin(store, 9)


def test_always_and_never(store: Store) -> None:
    charged = store.boots.charge(begin(store, 2), NOW)
    assert charged is not None and charged.charged == NOW and charged.window is None
    store.windows.open("n3", 10, 1, NOW, ROOT)
    assert store.boots.charge(begin(store, 3), NOW) is None
    window = store.windows.of("n3")
    assert window is not None and window.used == 0


def test_a_new_window_replaces_the_old(store: Store) -> None:
    store.windows.open("n1", 60, 5, NOW, ROOT)
    store.windows.open("n1", 60, 1, NOW, ROOT)
    assert store.boots.charge(begin(store), NOW)
    assert store.boots.charge(begin(store, revision="r2"), NOW) is None


def test_up_once_closes_the_window(store: Store, tmp_path: Path) -> None:
    store.windows.open("n1", 60, 5, NOW, ROOT)
    boot = begin(store)
    charged = store.boots.charge(boot, NOW)
    assert charged is not None
    assert store.boots.mark_up(charged, NOW + MINUTE) is True
    assert store.boots.mark_up(charged, NOW + MINUTE) is False
    window = store.windows.of("n1")
    assert window is not None and window.closed and window.used == 1
    assert store.boots.charge(boot, NOW + MINUTE) is None, "a boot that is up reads no more"
    assert begin(store, now=NOW + MINUTE).id > boot.id
    assert store.boots.of("n1")[-1].up == NOW + MINUTE
    store.close()
    with open_store(tmp_path) as again:
        assert again.windows.of("n1") == window and again.boots.mark_up(charged, NOW) is False


def test_up_leaves_a_newer_window_open(store: Store) -> None:
    store.windows.open("n1", 60, 1, NOW, ROOT)
    charged = store.boots.charge(begin(store), NOW)
    newer = store.windows.open("n1", 60, 1, NOW, ROOT)
    assert charged is not None and store.boots.mark_up(charged, NOW)
    assert store.windows.of("n1") == newer


def test_phone_home_keys(store: Store, tmp_path: Path) -> None:
    keys = {store.keys.phone_home(boot, name).reveal() for boot in (1, 2) for name in ("n1", "n2")}
    assert len(keys) == 4 and {len(key) for key in keys} == {32}
    key = store.keys.phone_home(1, "n1")
    store.close()
    assert not [p.name for p in tmp_path.iterdir() if key.reveal() in p.read_bytes()]
    with open_store(tmp_path) as again:
        assert again.keys.phone_home(1, "n1") == key
        again.hosts.apply(inventory(), ROOT)
        again.hosts.apply(inventory(host(1)), ROOT)
        assert again.keys.phone_home(1, "n1") != key, "another machine under the old name"


def test_the_key_of_a_copy_says_which_copy_it_is(store: Store, tmp_path: Path) -> None:
    copies = [Copy(name, m, c * 32) for name in ("n1", "n2") for m in (Medium.ISO, Medium.DISK) for c in "0a"]
    keys = {copy: store.keys.of_copy(copy).reveal() for copy in copies}
    assert len(set(keys.values())) == len(copies) and {len(key) for key in keys.values()} == {32}
    for copy, key in keys.items():
        assert store.keys.copy_of(copy.host, key) == copy
        assert store.keys.copy_of("n3", key) is None, "another host's"
        for forged in (b"", key[:16], key + b"\0", bytes(16) + key[16:], key[:-1] + bytes([key[-1] ^ 1])):
            assert forged == key or store.keys.copy_of(copy.host, forged) is None
    assert store.boots.of("n1") == [], "nothing is stored"
    key = keys[copies[0]]
    store.close()
    with open_store(tmp_path) as again:
        assert again.keys.copy_of("n1", key) == copies[0]
        again.hosts.apply(inventory(), ROOT)
        again.hosts.apply(inventory(host(1)), ROOT)
        assert again.keys.copy_of("n1", key) is None, "another machine under the old name"


def test_a_copy_comes_up_once(store: Store, tmp_path: Path) -> None:
    copy = Copy("n1", Medium.DISK, "a" * 32)
    boot = store.boots.mark_copy_up(copy, NOW)
    assert boot is not None and (boot.medium, boot.up, boot.mac) == (Medium.DISK, NOW, "")
    assert store.boots.mark_copy_up(copy, NOW) is None
    assert store.boots.mark_copy_up(Copy("n1", Medium.ISO, copy.id), NOW) and store.boots.mark_copy_up(
        Copy("n2", *_of(copy)), NOW
    )
    store.close()
    with open_store(tmp_path) as again:
        assert again.boots.of("n1")[-1] == boot and again.boots.mark_copy_up(copy, NOW) is None
        with pytest.raises(NotFound):
            again.boots.mark_copy_up(Copy("n9", Medium.ISO, copy.id), NOW)


def _of(copy: Copy) -> tuple[Medium, str]:
    return copy.medium, copy.id


def test_numbers_never_come_back(store: Store, tmp_path: Path) -> None:
    boot = begin(store)
    store.hosts.apply(inventory(), ROOT)
    store.close()
    with open_store(tmp_path) as again:
        again.hosts.apply(inventory(host(1)), ROOT)
        assert begin(again).id > boot.id


def test_history_is_bounded_by_medium(store: Store) -> None:
    iso = store.boots.mark_copy_up(Copy("n1", Medium.ISO, "0" * 32), NOW)
    for number in range(HISTORY + 5):
        begin(store, revision=str(number))
        store.windows.open("n1", 1, 1, NOW, ROOT)
    boots = store.boots.of("n1")
    assert len(boots) == HISTORY + 1 and boots[-1] == iso
    assert boots[0].seed_revision == str(HISTORY + 4)
    with store.database.read() as tx:
        assert tx.connection.exec_driver_sql("SELECT count(*) FROM windows").scalar() == HISTORY


def many_nics(state: Path) -> list[str]:
    """A host with 50 NICs and a window of one boot."""
    macs = [mac(1000 + number) for number in range(50)]
    nics = {f"eth{i}": Interface(macs=tuple(macs[i * 5 : i * 5 + 5]), bond=BondMode.LACP) for i in range(10)}
    nics["eth0"] = nics["eth0"].model_copy(update={"network": "mgmt", "addressing": Addressing.DHCP})
    with open_store(state) as store:
        store.hosts.apply(inventory(host(1, interfaces=nics)), ROOT)
        store.windows.open("n1", 10, 1, NOW, ROOT)
    return macs


def test_fifty_threads_one_boot(tmp_path: Path) -> None:
    macs = many_nics(tmp_path)
    won: list[Boot] = []
    with open_store(tmp_path) as store:
        barrier = threading.Barrier(len(macs))

        def ask(nic: str) -> None:
            boot = begin(store, nic=nic)
            barrier.wait()
            charged = store.boots.charge(boot, NOW)
            if charged is not None:
                won.append(charged)

        threads = [threading.Thread(target=ask, args=(nic,)) for nic in macs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        window = store.windows.of("n1")
        assert len(won) == 1 and window is not None and window.used == 1
        assert [b.mac for b in store.boots.of("n1") if b.charged] == [won[0].mac]


def _ask(state: Path, macs: list[str], barrier: threading.Barrier, results: multiprocessing.SimpleQueue[int]) -> None:
    with open_store(state) as store:
        barrier.wait()
        won = 0
        for nic in macs:
            try:
                won += store.boots.charge(begin(store, nic=nic), NOW) is not None
            except Unavailable:
                assert store.database.distrust, "who is not the only writer any more believes nothing"
        results.put(won)


@pytest.mark.integration
def test_two_processes_one_boot(tmp_path: Path) -> None:
    """The lock of the state directory keeps a second process off; without it, there is still no second boot."""
    macs = many_nics(tmp_path)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.SimpleQueue()
    processes = [
        context.Process(target=_ask, args=(tmp_path, share, barrier, results)) for share in (macs[:25], macs[25:])
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert results.get() + results.get() <= 1
    with open_store(tmp_path) as store:
        assert store.database.distrust == "" and sum(boot.charged is not None for boot in store.boots.of("n1")) <= 1


def test_boots_outlive_their_windows(store: Store, tmp_path: Path) -> None:
    boots = []
    for number in range(HISTORY + 8):
        store.windows.open("n1", 60, 1, NOW, ROOT)
        boots.append(store.boots.charge(begin(store, revision=str(number % 20)), NOW + number * MINUTE))
    kept = store.boots.of("n1")
    assert all(boots) and store.database.distrust == "" and len(kept) == HISTORY
    store.windows.open("n1", 60, 1, NOW, ROOT)
    store.boots.mark_up(kept[0], NOW)
    assert store.database.recheck() and store.boots.of("n1")
    store.close()
    with open_store(tmp_path) as again:
        assert again.database.distrust == "" and len(again.boots.of("n1")) == HISTORY


def test_only_a_boot_that_gives_nothing_away_is_not_synced(store: Store) -> None:
    """What a charge or a downloaded medium rests on must survive a power cut; an asked-for configuration need not."""
    store.windows.open("n1", 10, 1, NOW, ROOT)

    def synced(act: Callable[[], object]) -> list[int]:
        seen: list[int] = []

        def note(connection: Connection) -> None:
            driver: Any = connection.connection.dbapi_connection
            if connection.get_execution_options().get("provision_write"):
                seen.append(driver.execute("PRAGMA synchronous").fetchone()[0])

        event.listen(Engine, "commit", note)
        try:
            act()
        finally:
            event.remove(Engine, "commit", note)
        return seen

    normal, full = 1, 2  # sqlite.org, pragma synchronous
    boots: list[Boot] = []
    assert synced(lambda: boots.append(begin(store))) == [normal]
    assert synced(lambda: store.boots.charge(boots[0], NOW)) == [full]
    assert synced(lambda: store.boots.mark_copy_up(Copy("n1", Medium.ISO, "0" * 32), NOW)) == [full]
    assert synced(lambda: store.boots.mark_up(boots[0], NOW)) == [full]
