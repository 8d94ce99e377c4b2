"""The difference of several files, file by file."""

from __future__ import annotations

from provision.document import Source
from provision.inventory.diff import Change, Difference
from provision.inventory.origins import REMOVED, by_file

SITE = Source("site.yaml", b"site: {domain: example.test}\nhosts:\n  node1: {}\n")
RACK = Source("rack.yaml", b"hosts:\n  node2: {}\n  node3: {}\n")
EMPTY = Source("empty.yaml", b"- not a mapping\n")


def test_each_file_has_what_is_written_in_it() -> None:
    changes = Difference(
        added=("node2",),
        changed={"node1": (Change("labels.rack", "a", "b"),), "node3": (Change("labels.rack", None, "b"),)},
        removed=("node9",),
        site=(Change("domain", "a.test", "example.test"),),
    )
    assert by_file([RACK, EMPTY, SITE], changes) == [
        ("rack.yaml", ["+ node2", "~ node3: labels.rack: none -> b"]),
        ("empty.yaml", []),
        ("site.yaml", ["~ site: domain: a.test -> example.test", "~ node1: labels.rack: a -> b"]),
        (REMOVED, ["- node9"]),
    ]


def test_together_they_are_the_whole_difference() -> None:
    changes = Difference(added=("node1", "node2"), removed=("node8", "node9"))
    assert sorted(line for _, lines in by_file([SITE, RACK], changes) for line in lines) == sorted(changes.lines())
