"""What a booting machine gets from the service: windows, charges, pinned revisions, phone-home."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from provision.api.status import HostStatus
from provision.boot import Medium
from provision.errors import Conflict, Denied, Gone, NotFound, ProvisionError
from provision.media.reader import Reader
from provision.web import boot_app
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    GENERAL,
    INVENTORY,
    IP,
    MAC1,
    MAC2,
    MAC3,
    STRANGER,
    Site,
    ask,
    boot_iso,
    charged,
    edge,
    everything,
    origin,
    seed_url,
    site,
    uncharged,
    used,
)


def phone_home(seed: bytes) -> tuple[str, bytes]:
    """URL and key as they stand in a seed."""
    start = seed.index(b'{\n  "format"')
    said = json.JSONDecoder().raw_decode(seed[start : seed.index(b"\n}\n", start) + 2].decode())[0]["phone_home"]
    return said["url"], bytes.fromhex(said["key"])


# What is free, and what costs a boot


def test_the_seed_costs_the_boot_and_nothing_else_does(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    revision = seed_url(here)
    netboot.kernel(here.base.id)
    netboot.initrd(here.base.id, 0)
    assert CANARY in uncharged(netboot.seed(origin(), revision)).data
    boot_iso(netboot, origin(), 0, None)
    assert used(here) == 0
    assert CANARY in charged(netboot.seed(origin(), revision)).data
    assert used(here) == 1


def test_a_boot_may_read_again_for_ten_minutes(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    first = charged(netboot.seed(origin(), seed_url(here)))
    here.clock.advance(minutes=9, seconds=59)
    revision = seed_url(here)
    assert charged(netboot.seed(origin(), revision)) == first
    assert used(here) == 1
    here.clock.advance(seconds=1)
    with pytest.raises(Denied, match=r"node1 has used its boot window \(1 of 1 boots\)"):
        charged(netboot.seed(origin(), revision))
    assert b"window-closed" in netboot.pxelinux_config(origin(), MAC1)


def test_a_window_of_two_boots_gives_two(here: Site) -> None:
    here.window(boots=2)
    netboot = here.service.netboot
    for number in (1, 2):
        charged(netboot.seed(origin(), seed_url(here)))
        assert used(here) == number
        here.clock.advance(minutes=11)
    with pytest.raises(Denied):
        charged(netboot.seed(origin(), None))


def test_a_host_that_always_boots_needs_no_window(here: Site) -> None:
    netboot = here.service.netboot
    for _ in range(3):
        assert b"token-of-node2" in charged(netboot.seed(origin(MAC2), seed_url(here, MAC2))).data
        here.clock.advance(minutes=11)


def test_a_boot_survives_a_new_tracker(here: Site) -> None:
    here.window()
    revision = seed_url(here)
    here.service.netboot._tracker._by_mac._networks.clear()
    assert charged(here.service.netboot.seed(origin(), revision)).revision == revision
    here.service.netboot._tracker._by_mac._networks.clear()
    here.service.core.charged.forget("node1")
    assert charged(here.service.netboot.seed(origin(), revision)).revision == revision
    assert used(here) == 1


def in_parallel(count: int, work: Callable[[int], Any]) -> list[Any]:
    """The result or the error of each of `count` calls made at once."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except ProvisionError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def _bond(number: int) -> str:
    macs = ", ".join(f'"52:54:00:00:01:{8 * number + n:02x}"' for n in range(8))
    place = f"bridge: br{number}" if number else "network: mgmt, addressing: static, ipv4: 10.0.0.11"
    return f"      bond{number}: {{macs: [{macs}], bond: active-backup, {place}}}\n"


MANY = INVENTORY.replace(
    '      mgmt: {mac: "52:54:00:00:00:01", network: mgmt, addressing: static, ipv4: 10.0.0.11}\n',
    "".join(map(_bond, range(7))),
)


@pytest.mark.parametrize("charge_by", ["seed", "http-boot"])
def test_of_fifty_clients_on_a_window_of_one_boot_one_wins(tmp_path: Path, charge_by: str) -> None:
    with site(tmp_path, MANY) as here:
        here.window()
        macs = here.service.core.hosts["node1"].macs
        assert len(macs) == 56
        netboot = here.service.netboot

        def boot(number: int) -> bytes:
            mac = macs[number]
            if charge_by == "http-boot":
                with Reader(boot_iso(netboot, origin(mac), 0, everything)) as reader:
                    return reader.pread(0, 1 << 20)
            return charged(netboot.seed(origin(mac), None)).data

        answers = in_parallel(50, boot)
        got = [answer for answer in answers if isinstance(answer, bytes) and CANARY in answer]
        assert len(got) == used(here) == 1
        # Who came later sees the used window: over HTTP Boot as the refusing medium.
        assert all(
            isinstance(a, Denied) or (charge_by == "http-boot" and isinstance(a, bytes))
            for a in answers
            if a not in got
        )


# Up


def test_a_host_says_once_that_it_is_up(here: Site) -> None:
    here.window(boots=5)
    netboot = here.service.netboot
    revision = seed_url(here)
    url, key = phone_home(charged(netboot.seed(origin(), revision)).data)
    assert url == "http://10.0.0.1/up"
    for host, wrong in (("node1", b"\0" * 32), ("node2", key), ("node9", key), ("node1", b"")):
        with pytest.raises(Denied, match="the key fits no boot of this host"):
            netboot.phone_home.up(host, wrong)
    here.service.core.audit.flush()
    tried = [e for e in here.service.core.audit.entries(None, 50) if e["event"] == "up"]
    assert {(e.get("host"), e["answer"], e["rule"]) for e in tried} == {
        (host, "denied", "phone-home") for host in ("node1", "node2", None)
    }
    assert netboot.phone_home.up("node1", key).up == here.clock.now
    window = here.service.core.store.windows.of("node1")
    assert window is not None
    assert window.closed
    with pytest.raises(Conflict, match="has already said"):
        netboot.phone_home.up("node1", key)
    with pytest.raises(Denied, match="which is closed"):
        charged(netboot.seed(origin(), revision))
    assert [e["mac"] for e in here.audit("up") if "answer" not in e] == [MAC1]
    assert here.service.reports.status(ROOT, "node1").hosts[0].stage == "up"


@pytest.mark.parametrize("written_first", [True, False])
def test_a_host_that_is_up_from_a_medium_shows_that_boot(here: Site, written_first: bool) -> None:
    netboot, media, reports = here.service.netboot, here.service.media, here.service.reports
    plans = [media.plan("node1", Medium.ISO, ROOT)] if written_first else []
    here.window()
    _, key = phone_home(charged(netboot.seed(origin(), seed_url(here))).data)
    here.clock.advance(seconds=60)
    netboot.phone_home.up("node1", key)
    assert reports.status(ROOT, "node1").hosts[0].medium == "pxe"
    plans = plans or [media.plan("node1", Medium.ISO, ROOT)]
    (seed,) = (patch.data for patch in plans[0].patches if b'{\n  "format"' in patch.data)
    here.clock.advance(seconds=60)
    netboot.phone_home.up("node1", phone_home(seed)[1])
    row = reports.status(ROOT, "node1").hosts[0]
    assert (row.stage, row.medium, row.parts) == ("up", "iso", {})
    with pytest.raises(Conflict, match="has already said"):
        netboot.phone_home.up("node1", phone_home(seed)[1])
    with pytest.raises(Denied, match="fits no boot"):
        netboot.phone_home.up("node2", phone_home(seed)[1])


def test_a_boot_that_is_up_gets_no_seed_even_when_a_new_window_opens(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    revision = seed_url(here)
    _, key = phone_home(charged(netboot.seed(origin(), revision)).data)
    netboot.phone_home.up("node1", key)
    here.clock.advance(seconds=1)
    here.window()
    with pytest.raises(Gone):
        charged(netboot.seed(origin(), revision))
    assert seed_url(here) != revision, "the next boot has a key of its own"


# Who asks


@pytest.mark.parametrize(
    ("asks", "rule"),
    [
        (origin(STRANGER), "unknown-host"),
        (origin(MAC3), "netboot-never"),
        (origin(MAC1), "window-closed"),
        (origin(None), "unknown-host"),
        (origin(MAC2, local=True), "local-peer"),
        (origin(MAC2, address=None), "off-prefix"),
        (origin(MAC2, GENERAL), "off-prefix"),
    ],
)
def test_a_denied_machine_gets_no_seed_and_a_console_text(here: Site, asks: Any, rule: str) -> None:
    netboot = here.service.netboot
    with pytest.raises(Denied) as denied:
        charged(netboot.seed(asks, None))
    assert denied.value.rule == rule
    for config in (netboot.grub_config(asks), netboot.pxelinux_config(asks, asks.requester.mac or STRANGER)):
        assert f"rule: {rule}".encode() in config or rule == "unknown-host"
        assert b"seed" not in config
        assert here.base.id.encode() not in config
    refusal = boot_iso(netboot, asks, 0, everything)
    assert (refusal.base, refusal.revision) == (here.base.refusal.path, "refusal")


def test_the_mac_in_the_path_is_only_a_claim(here: Site) -> None:
    refused = here.service.netboot.pxelinux_config(origin(STRANGER), MAC2)
    assert b"rule: foreign-mac" in refused
    assert b"seed" not in refused
    assert b"seed" in here.service.netboot.pxelinux_config(origin(MAC2), MAC2)


def test_a_general_network_gives_nothing_that_carries_a_credential(here: Site) -> None:
    asks = origin(MAC2, GENERAL, address=GENERAL.address)
    with pytest.raises(Denied) as denied:
        charged(here.service.netboot.seed(asks, None))
    assert denied.value.rule == "secrets-on-general"


def test_a_seed_without_credentials_carries_no_key_on_a_general_network(tmp_path: Path) -> None:
    text = INVENTORY.replace(
        '    credentials: [token]\n    labels: {rack: a}\n    interfaces:\n      mgmt: {mac: "52:54:00:00:00:02"',
        '    labels: {rack: a}\n    interfaces:\n      mgmt: {mac: "52:54:00:00:00:02"',
    )
    with site(tmp_path, text) as here:
        asks = origin(MAC2, GENERAL, address=GENERAL.address)
        assert b"phone_home" not in charged(here.service.netboot.seed(asks, None)).data


def test_unknown_machines_are_listed_with_their_uuid(here: Site) -> None:
    uuid = "12345678-1234-1234-1234-123456789abc"
    here.service.netboot.pxelinux_config(origin(STRANGER), STRANGER)
    here.service.netboot.note_uuid(origin(STRANGER), uuid)
    here.service.netboot.note_uuid(origin(MAC1), uuid)
    here.service.netboot.note_uuid(origin(None), uuid)
    (seen,) = here.service.reports.status(ROOT).unknown
    assert (seen.mac, seen.uuid, seen.network) == (STRANGER, uuid, "mgmt")
    local = origin("52:54:00:00:00:98", local=True)
    here.service.netboot.pxelinux_config(local, "52:54:00:00:00:98")
    assert len(here.service.reports.status(ROOT).unknown) == 1


# Bytes without secrets


def test_ids_that_are_not_there(here: Site) -> None:
    netboot = here.service.netboot
    calls: list[Callable[[], object]] = [
        lambda: netboot.kernel("0" * 64),
        lambda: netboot.initrd(here.base.id, 1),
        lambda: netboot.initrd(here.base.id, -1),
        lambda: netboot.loader(origin(), "nothing.c32"),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert netboot.loader(origin(STRANGER), "ldlinux.c32").path.name == "ldlinux.c32"


def test_progress_is_what_was_sent(here: Site) -> None:
    here.window()
    revision = seed_url(here)
    netboot = here.service.netboot

    def status() -> HostStatus:
        return here.service.reports.status(ROOT, "node1").hosts[0]

    assert (status().stage, status().parts) == ("configuration", {"configuration": 100})
    netboot.sent(origin(), "kernel", 0.5)
    netboot.sent(origin(), "kernel", 0.4)
    netboot.sent(origin(STRANGER), "kernel", 0.9)
    assert (status().stage, status().parts["kernel"]) == ("kernel", 50)
    charged(netboot.seed(origin(), revision))
    netboot.sent(origin(), "seed", 1.0, 0.9)
    assert "seed" not in status().parts, "an end is not all of it"
    netboot.sent(origin(), "seed", 7.0)
    assert (status().stage, status().parts["seed"]) == ("seed", 100)
    window = status().window
    assert window is not None and window.used == 1


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
