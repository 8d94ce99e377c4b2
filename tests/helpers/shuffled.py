"""A plugin for pytest (`-p tests.helpers.shuffled --seed N`): tests in an order that the seed decides.

The tests of one file stay together, because they share what takes long to make; the files, and the tests in each, are
shuffled. Every worker of a parallel run has the same order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import TypeVar

import pytest

T = TypeVar("T")


def shuffled(items: list[T], seed: int, group: Callable[[T], Hashable]) -> list[T]:
    """The items in another order, those of one group still in a row. Pure: the same seed gives the same order."""
    draw, groups = random.Random(seed), dict[Hashable, list[T]]()
    for item in items:
        groups.setdefault(group(item), []).append(item)
    rows = list(groups.values())
    draw.shuffle(rows)
    for row in rows:
        draw.shuffle(row)
    return [item for row in rows for item in row]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, required=True, help="what decides the order of the tests")


def pytest_report_header(config: pytest.Config) -> str:
    return f"order: --seed {config.getoption('--seed')}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = shuffled(items, config.getoption("--seed"), lambda item: item.path)
