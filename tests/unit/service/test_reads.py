"""A seed that is read again: what is seen of a second machine with the host's MAC, and what loaders may do."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Medium
from provision.errors import Denied
from provision.media.layout import SEED
from provision.service.delivery import Delivery
from provision.service.reads import _KINDS, Read, Reads
from provision.store.fields import Entry
from provision.tftp.handler import handler
from provision.tftp.packet import Terms, clean_name
from provision.tftp.server import TftpRequest
from provision.tftp.session import Session
from provision.web import boot_app
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    IP,
    MAC1,
    MAC2,
    READS_AGAIN,
    Site,
    charged,
    edge,
    origin,
    request,
    seed_url,
    site,
    used,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WHOLE = Read("node1", MAC1, "10.0.0.11", Medium.PXE, "a" * 64, 0, 1000, 1000)
ISO = replace(WHOLE, medium=Medium.HTTP_BOOT)
AGAIN = "was read again after it had been read whole"


def notes(*reads: Read) -> list[str | None]:
    book = Reads()
    return [book.note(read, NOW + timedelta(seconds=n)) for n, read in enumerate(reads)]


def part(first: int, last: int, of: Read = WHOLE) -> Read:
    return replace(of, first=first, last=last)


# What loaders do


def test_one_reading_is_nothing() -> None:
    assert notes(WHOLE) == [None]
    assert notes(*(part(n, n + 100, ISO) for n in range(0, 1000, 100))) == [None] * 10


def test_asking_for_the_size_is_no_reading() -> None:
    assert notes(part(0, 0), WHOLE, part(0, 0), part(1000, 1000)) == [None] * 4


def test_a_transfer_that_broke_may_begin_anew() -> None:
    assert notes(part(0, 999), part(0, 500), part(0, 999), WHOLE) == [None] * 4


def test_ranges_may_come_in_any_order_and_overlap() -> None:
    assert notes(*(part(*r, of=ISO) for r in ((900, 1000), (0, 300), (200, 600), (500, 950), (0, 400)))) == [None] * 5


def test_the_next_boot_is_another_one() -> None:
    book = Reads()
    assert book.note(WHOLE, NOW) is None
    book.forget("node1")
    assert book.note(WHOLE, NOW) is None
    assert book.note(replace(WHOLE, identity="b" * 64), NOW) is None, "it has changed"
    assert book.note(replace(WHOLE, identity="b" * 64), NOW + timedelta(minutes=10)) is None
    assert book.note(replace(WHOLE, mac=MAC2), NOW) is None, "each NIC reads for itself"


# What a second machine does


def test_a_second_whole_reading() -> None:
    assert notes(WHOLE, WHOLE) == [None, AGAIN]
    assert notes(ISO, part(0, 937, ISO), part(937, 938, ISO)) == [None, None, AGAIN]


def test_a_second_one_that_keeps_the_last_block_back() -> None:
    assert notes(WHOLE, part(0, 999)) == [None, AGAIN]
    assert notes(part(0, 999), WHOLE, part(0, 1)) == [None, None, AGAIN]


def test_two_addresses() -> None:
    other = replace(WHOLE, address="10.0.0.77")
    assert notes(part(0, 10), replace(other, last=1)) == [None, "was read from 10.0.0.11 and from 10.0.0.77"]


def test_two_media() -> None:
    assert notes(part(0, 10), part(0, 1, ISO)) == [None, "was read by pxe and by http-boot"]


def test_each_kind_is_told_once_and_no_more_than_a_few() -> None:
    addresses = [replace(WHOLE, address=f"10.0.0.{n}") for n in range(100)]
    assert sum(found is not None for found in notes(WHOLE, *addresses, *addresses)) == _KINDS
    assert notes(WHOLE, WHOLE, WHOLE) == [None, AGAIN, None]


# In the service


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.window(boots=3)
        yield opened


def is_open(here: Site, host: str = "node1") -> bool:
    window = here.service.core.store.windows.of(host)
    return window is not None and window.is_open(here.clock.now)


def seed_over_http(here: Site, method: str = "GET", mac: str = MAC1, **fields: Any) -> bytes:
    path = f"/boot/seed/{seed_url(here, mac)}/seed.cpio"
    return request(boot_app.create(here.service.netboot, edge()), method, path, peer=IP[mac], **fields).body


def settled(here: Site) -> list[Entry]:
    """The events of seeds that were read again."""
    return here.audit("seed-read-again")


def test_a_host_that_reads_once_is_not_spoken_of(here: Site) -> None:
    seed_over_http(here, "HEAD")
    assert CANARY in seed_over_http(here)
    seed_over_http(here, "HEAD")
    assert settled(here) == [] and is_open(here)


def test_a_clone_that_reads_after_the_host_is_seen_and_the_window_closes(
    here: Site, caplog: pytest.LogCaptureFixture
) -> None:
    seed_over_http(here)
    with caplog.at_level(logging.WARNING):
        assert CANARY in seed_over_http(here), "the same machine, as far as anybody can see"
    [event] = settled(here)
    assert (event["host"], event["mac"], event["address"]) == ("node1", MAC1, IP[MAC1])
    assert event["reason"] == f"The seed of node1 {AGAIN}, in one boot of {MAC1}"
    assert not is_open(here)
    with pytest.raises(Denied) as caught:
        charged(here.service.netboot.seed(origin(), None))
    assert caught.value.rule == "window-closed"
    assert "ALERT seed-read-again: node1" in caplog.text
    row = here.service.reports.status(ROOT, "node1").hosts[0]
    assert [alert.event for alert in row.alerts] == ["seed-read-again"]


def test_a_clone_at_another_address(here: Site) -> None:
    seed_over_http(here)
    netboot = here.service.netboot
    elsewhere = origin(MAC1, address=IPv4Address("10.0.0.77"))
    size = len(charged(netboot.seed(elsewhere, None)).data)
    netboot.read_done(elsewhere, Medium.PXE, 0, 512, size)
    [event] = settled(here)
    assert "was read from 10.0.0.11 and from 10.0.0.77" in event["reason"] and event["address"] == "10.0.0.77"
    assert not is_open(here)


def iso(here: Site, range_: str | None = None, mac: str = MAC1) -> int:
    headers = {"range": range_} if range_ else {}
    app = boot_app.create(here.service.netboot, edge())
    return len(request(app, "GET", "/http-boot/boot.iso", headers=headers, peer=IP[mac]).body)


def test_the_other_medium(here: Site) -> None:
    seed_over_http(here)
    iso(here)
    [event] = settled(here)
    assert "was read by pxe and by http-boot" in event["reason"] and not is_open(here)


def test_an_iso_in_pieces_is_read_once_and_then_again(here: Site) -> None:
    for start in range(0, here.base.iso.size, 64 * 1024):
        iso(here, f"bytes={start}-{start + 70 * 1024}")
    assert settled(here) == [] and is_open(here)
    slot = here.base.iso.slots[SEED]
    iso(here, f"bytes={slot.offset}-{slot.offset + slot.size}")
    assert len(settled(here)) == 1 and not is_open(here)


def test_a_client_that_goes_before_the_end_has_read_what_it_was_sent(here: Site) -> None:
    """A machine that takes all of the seed and leaves before the medium's last byte."""
    slot = here.base.iso.slots[SEED]
    for reading in range(2):
        delivery = here.service.netboot.http_boot(origin(), 0)
        assert isinstance(delivery, Delivery)
        delivery.charge()
        delivery.taken(range(slot.offset + slot.size // 2))
        delivery.taken(range(slot.offset + slot.size // 2, slot.offset + slot.size))
        delivery.end()
        assert len(settled(here)) == reading


def test_a_site_may_want_to_be_told_only(tmp_path: Path) -> None:
    with site(tmp_path, READS_AGAIN) as here:
        here.window(boots=3)
        seed_over_http(here)
        seed_over_http(here)
        assert len(settled(here)) == 1 and is_open(here) and used(here) == 1


def test_a_host_that_may_boot_at_any_time_is_told_of_and_goes_on(here: Site) -> None:
    for _ in range(3):
        assert b"token-of-node2" in seed_over_http(here, mac=MAC2)
    assert [event["host"] for event in settled(here)] == ["node2"]


# Over TFTP, against the transfer itself


async def transfer(here: Site, options: dict[str, str], blocks: int | None) -> None:
    """Fetch node1's seed over TFTP and acknowledge so many blocks of it (None: all), then go away."""
    serve = handler(here.service.netboot, edge())
    answer = await serve(TftpRequest(clean_name(b"boot/seed/current/seed.cpio"), IPv4Address(IP[MAC1]), options))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for one in (ours, theirs):
        one.setblocking(False)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    session = Session(theirs, answer, Terms(), "test", ended.set)
    session.start()
    number = 0
    while number != blocks and not ended.is_set():
        data = await loop.sock_recv(ours, 2048)
        number += 1
        await loop.sock_sendall(ours, b"\0\4" + number.to_bytes(2))
        if len(data) < 516:
            await ended.wait()
    session.end()
    await ended.wait()
    ours.close()
    # What is written about it is written in another thread.
    await asyncio.gather(*here.service.netboot.rereads._under_way)


def test_tftp_transfers_count_as_far_as_they_came(here: Site) -> None:
    asyncio.run(transfer(here, {}, 0))
    asyncio.run(transfer(here, {}, 3))
    asyncio.run(transfer(here, {}, None))
    assert settled(here) == [] and is_open(here)
    asyncio.run(transfer(here, {}, 0))
    assert settled(here) == [], "who has acknowledged nothing has read nothing"
    asyncio.run(transfer(here, {}, 3))
    assert len(settled(here)) == 1 and not is_open(here)
