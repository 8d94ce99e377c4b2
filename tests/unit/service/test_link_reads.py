"""How much was read by a link: each byte counts once, whatever ranges a BMC asks for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.service import link_reads
from provision.service.link_reads import LinkReads, joined, told

RANGES = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda found: range(found[0], found[0] + found[1]))


@given(st.lists(RANGES), RANGES)
def test_each_byte_counts_once(ranges: list[range], within: range) -> None:
    reads, pieces = LinkReads(), list[tuple[int, int]]()
    for one in ranges:
        reads.note("a", one)
        pieces = joined(pieces, (one.start, one.stop))
    sent = {byte for one in ranges for byte in one}
    assert reads.of("a", within) == len(sent & set(within))
    assert {byte for start, stop in pieces for byte in range(start, stop)} == sent
    assert all(first[1] < second[0] for first, second in itertools.pairwise(pieces))
    assert reads.of("b", within) == 0


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_reads, "_PIECES", 3)
    monkeypatch.setattr(link_reads, "_LINKS", 2)
    reads = LinkReads()
    for start in range(0, 100, 10):
        reads.note("a", range(start, start + 5))
    assert reads.of("a", range(100)) == 15
    reads.note("a", range(5, 10))
    assert reads.of("a", range(100)) == 20
    reads.note("a", range(0))
    for name in "bc":
        reads.note(name, range(7))
    assert [reads.of(name, range(100)) for name in "abc"] == [0, 7, 7]


def test_it_is_told_by_parts_in_tenths() -> None:
    reads = LinkReads()
    parts = {"kernel": (range(10, 20),), "initrd": (range(20, 40), range(60, 80)), "seed": (range(90, 95),)}
    assert told(reads, "a", 100, parts) == ""
    reads.note("a", range(39))
    assert told(reads, "a", 100, parts) == "the BMC has read 30 % of its medium (kernel 100 %, initrd 40 %, seed 0 %)"
    reads.note("a", range(30, 100))
    assert (
        told(reads, "a", 100, parts) == "the BMC has read 100 % of its medium (kernel 100 %, initrd 100 %, seed 100 %)"
    )
    assert told(reads, "a", 100, {"empty": (range(0),)}) == "the BMC has read 100 % of its medium (empty 0 %)"
