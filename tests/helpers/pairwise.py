"""Pairwise selection: few rows of a table in which every pair of values stands that any row of it has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations

Row = tuple[Hashable, ...]
Pair = tuple[int, Hashable, int, Hashable]
"""Two columns, each with its value."""


def pairs(row: Row) -> frozenset[Pair]:
    """Every pair of values in a row, by their columns."""
    return frozenset((a, row[a], b, row[b]) for a, b in combinations(range(len(row)), 2))


def select(
    rows: Sequence[Row],
    given: Sequence[Row] = (),
    cost: Callable[[Row], float] = lambda row: 1.0,
    proves: Callable[[Row], frozenset[Pair]] = pairs,
) -> list[Row]:
    """Rows that have every pair which `rows` have and no row that is `given` has, in the order of `rows`; a row has the
    pairs that it `proves`.

    Greedy: the row with the most new pairs for its `cost` comes next, the first of several. Then those go of which all
    pairs are in others, the dearest first. The same rows give the same answer, and none is given for no rows.
    """
    of = {row: proves(row) for row in rows}
    had = frozenset().union(*map(proves, given))
    missing = set().union(*of.values()) - had
    chosen: list[Row] = []
    while missing:
        best = max(of, key=lambda row: len(of[row] & missing) / cost(row))
        chosen.append(best)
        missing -= of[best]
    for row in sorted(chosen, key=cost, reverse=True):
        if of[row] <= had.union(*(of[other] for other in chosen if other != row)):
            chosen.remove(row)
    return [row for row in of if row in chosen]
