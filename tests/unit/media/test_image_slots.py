"""Where the partitions of a disk in two slots are, and what GRUB remembers at first."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from provision.media import gpt, identity, image_slots
from provision.media.image_slots import USUAL
from tests.helpers.host_programs import load

MIB = 1 << 20


@given(st.integers(0, 1 << 31), st.integers(1, 65536).map(lambda pages: pages * 4096))
def test_partitions_follow_one_another_and_have_room(content: int, seed_size: int) -> None:
    table = image_slots.table(lambda name: UUID(int=len(name)), content, seed_size, USUAL)
    first = gpt.FIRST_USABLE_TWICE
    for one in table.partitions:
        assert one.first == first
        first = one.last + 1
    bios, esp, config, a, b, data = table.partitions
    assert [one.offset % MIB for one in (esp, config, a, b, data)] == [0] * 5 and esp.offset == MIB
    assert identity.capacity(config.size) >= seed_size and config.size >= 32768 * gpt.SECTOR
    assert a.size == b.size >= content * 3 // 2 + 32 * MIB
    assert bios.last == 2047


def test_the_host_knows_the_partitions_by_the_same_names() -> None:
    """Its own programs name them again."""
    host = load("gpt")
    table = image_slots.table(lambda name: UUID(int=len(name)), MIB, MIB, USUAL)
    _, esp, config, a, b, data = [(one.type, one.name) for one in table.partitions]
    assert (esp, config, {"a": a, "b": b}, data) == (host.ESP, host.CONFIG, host.SLOTS, host.DATA)
    numbers = image_slots.ESP_NUMBER, image_slots.CONFIG_NUMBER, image_slots.SLOT_A, image_slots.SLOT_B
    assert [table.partitions[number - 1].name for number in numbers] == [one[1] for one in (esp, config, a, b)]


def test_what_grub_remembers_at_first() -> None:
    block = image_slots.environment()
    assert block == b"# GRUB Environment Block\nslot=a\ntry=\ntries=\nfailed=\n".ljust(1024, b"#")
