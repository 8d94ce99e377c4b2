"""The states of a disk after a power cut: each is one that the disk may be in, and all kinds are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provision.lab.crashes import Crashed, How, Piece, State, spread, states
from provision.lab.write_log import Entry, Flush, Write

LOG = bytes(512) + b"a" * 1024 + b"b" * 1024 + b"c" * 512
ENTRIES: Sequence[Entry] = (Write(0, 1024, 512), Write(512, 1024, 1536), Flush(), Write(0, 512, 2560))
SIZE = 2048


def reached(tmp_path: Path, entries: Sequence[Entry], found: Sequence[State]) -> list[bytes]:
    """What is on the disk in each of the states: a letter for each sector."""
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.write_bytes(b"." * SIZE)
    log.write_bytes(LOG)
    contents = []
    with Crashed(disk, log, entries) as crashed:
        for state in found:
            crashed.put(state)
            data = disk.read_bytes()
            sectors = [data[at : at + 512] for at in range(0, SIZE, 512)]
            assert all(len(set(sector)) == 1 for sector in sectors), "half a sector"
            contents.append(bytes(sector[0] for sector in sectors))
    return contents


def test_what_was_flushed_stays_and_what_was_not_may_be_there_in_any_order(tmp_path: Path) -> None:
    found = list(states(ENTRIES, 40, 7))
    contents = reached(tmp_path, ENTRIES, found)
    # Before the flush, of both writes any sectors; in sector 1 either may be the later one.
    before = {content for state, content in zip(found, contents, strict=True) if state.durable == 0}
    assert {b"....", b"aa..", b"abb.", b".bb.", b"a...", b"ab..", b"..b.", b"a.b."} <= before
    assert all(content[0:1] in b".a" and content[2:4] in (b"b.", b"..") for content in before)
    after = {content for state, content in zip(found, contents, strict=True) if state.durable == 3}
    assert after == {b"abb.", b"cbb."}
    assert {state.how for state in found} == set(How)


def test_a_later_write_may_come_first(tmp_path: Path) -> None:
    entries = (Write(0, 512, 512), Write(0, 512, 1536), Write(1024, 512, 2560))
    contents = reached(tmp_path, entries, list(states(entries, 40, 7)))
    assert {b"a...", b"b...", b"a.c.", b"b.c.", b"..c."} <= set(contents)


def test_what_was_forced_to_the_medium_is_there_when_it_is_done(tmp_path: Path) -> None:
    entries = (Write(512, 512, 1536), Write(0, 1024, 512, forced=True), Write(1024, 512, 2560))
    found = list(states(entries, 40, 7))
    contents = reached(tmp_path, entries, found)
    assert {c[0:1] for state, c in zip(found, contents, strict=True) if state.point == 3} == {b"a"}
    assert {c[0:1] for state, c in zip(found, contents, strict=True) if state.point == 2} == {b"a", b"."}


def test_a_discard_is_a_write_of_zeros(tmp_path: Path) -> None:
    entries = (Write(0, 1024, None), Flush())
    assert reached(tmp_path, entries, list(states(entries, 1, 7)))[-1] == b"\0\0.."


def test_the_same_seed_gives_the_same_states() -> None:
    assert list(states(ENTRIES, 5, 7)) == list(states(ENTRIES, 5, 7)) != list(states(ENTRIES, 5, 8))


def test_a_choice_is_spread_over_all_states() -> None:
    found = [State(point, How.KEPT, point, (Piece(point),)) for point in range(100)]
    chosen = spread(found, 10, 7)
    assert [state.point // 10 for state in chosen] == list(range(10))
    assert spread(found, 200, 7) == found
    assert chosen == spread(found, 10, 7) != spread(found, 10, 8)
