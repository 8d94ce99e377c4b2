"""How every host is: found out anew while that is cheap, and kept for a while when it is not."""

from __future__ import annotations

import threading

import pytest

from provision.service.conditions import Conditions
from provision.service.grouping import Condition


class Clocks:
    """The time, and the time of a processor, as a test sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now, self.spent, self.cost, self.times = 100.0, 0.0, cost, 0
        monkeypatch.setattr("provision.service.conditions.time.monotonic", lambda: self.now)
        monkeypatch.setattr("provision.service.conditions.time.thread_time", lambda: self.spent)

    def find(self) -> dict[str, Condition]:
        self.times += 1
        self.spent += self.cost
        return {"node1": Condition.UP}


def test_what_is_cheap_is_always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch, cost=0.01)
    there = Conditions(clocks.find)
    for _ in range(3):
        assert there.all() == {"node1": Condition.UP}
    assert clocks.times == 3


def test_what_is_dear_is_kept_for_twenty_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch, cost=1.5)
    there = Conditions(clocks.find)
    there.all()
    clocks.now += 29.9
    there.all()
    assert clocks.times == 1
    clocks.now += 0.2
    there.all()
    assert clocks.times == 2


def test_many_who_ask_at_once_share_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, go, began = Clocks(monkeypatch, cost=1.0), threading.Event(), threading.Event()

    def find() -> dict[str, Condition]:
        began.set()
        assert go.wait(60)
        return clocks.find()

    there = Conditions(find)
    threads = [threading.Thread(target=there.all) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    go.set()
    for thread in threads:
        thread.join(60)
    assert clocks.times == 1
