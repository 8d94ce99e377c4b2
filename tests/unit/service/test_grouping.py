"""Hosts counted by condition and label."""

from __future__ import annotations

from provision.service import grouping
from provision.service.grouping import Condition, grouped

HOSTS = [
    ({"rack": "10", "row": "a"}, Condition.UP),
    ({"rack": "2"}, Condition.STUCK),
    ({"rack": "2"}, Condition.UP),
    ({}, Condition.IDLE),
]


def test_by_the_label_that_most_hosts_have() -> None:
    found = grouped(HOSTS)
    assert (found.label, found.labels) == ("rack", ("rack", "row"))
    assert [(group.value, group.total) for group in found.groups] == [("2", 2), ("10", 1), (None, 1)]
    assert found.all.counts == {Condition.UP: 2, Condition.STUCK: 1, Condition.IDLE: 1}


def test_by_another_label() -> None:
    assert [(g.value, g.total) for g in grouped(HOSTS, "row").groups] == [("a", 1), (None, 3)]
    assert [(g.value, g.total) for g in grouped(HOSTS, "none").groups] == [(None, 4)]


def test_without_any_label_or_host() -> None:
    assert grouped([({}, Condition.UP)]).label == "" and grouped([]).groups == ()


def test_numbers_within_values_are_in_their_order() -> None:
    hosts = [({"rack": value}, Condition.UP) for value in ("b1", "a10", "a2", "a", "3")]
    assert [group.value for group in grouped(hosts).groups] == ["3", "a", "a2", "a10", "b1"]


def test_of_many_groups_the_largest_are_told_apart() -> None:
    most = grouping.MOST
    hosts = [({"rack": str(n)}, Condition.UP) for n in range(most + 5)] + [({"rack": str(most)}, Condition.STUCK)]
    found = grouped(hosts).groups
    assert len(found) == most + 1 and found[-1].others == 5 and found[-1].total == 5
    assert str(most) in [group.value for group in found], "it has two hosts"
    assert sum(group.total for group in found) == len(hosts)
