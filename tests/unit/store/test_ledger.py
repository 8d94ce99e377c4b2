"""The sum over all rows: any other set of rows has another one, and the record is the key's own."""

from __future__ import annotations

import random

import pytest

from provision.secret import Secret
from provision.store import schema
from provision.store.ledger import Ledger, Posting, Record, Row, Standing, _encode

KEY = Secret(bytes(range(32)))
ROWS: list[Row] = [("n1", "a", 1), ("n1", "b", 1), ("n2", "a", 3)]


def ledger(rows: list[Row], key: Secret = KEY) -> Ledger:
    made = Ledger(key)
    posting = Posting(made)
    for row in rows:
        posting.add(schema.credential_versions, row)
    made.commit(posting)
    return made


def test_the_order_does_not_matter_and_nothing_else_is_the_same() -> None:
    total = ledger(ROWS).total
    assert ledger(ROWS[::-1]).total == total
    others: list[list[Row]] = [
        ROWS[1:],
        [*ROWS, ROWS[0]],
        [("n2", "a", 1), ("n1", "b", 1), ("n1", "a", 3)],
        [("n1", "a", 1), ("n1", "b", 1), ("n2", "a", 4)],
        [("n1", "a", "1"), ("n1", "b", 1), ("n2", "a", 3)],
        [],
    ]
    assert len({total, *(ledger(rows).total for rows in others)}) == len(others) + 1
    assert ledger(ROWS, Secret(bytes(32))).total != total


def test_changes_are_the_difference() -> None:
    chance, rows = random.Random(1), list(ROWS)
    made = ledger(rows)
    for number in range(200):
        posting = Posting(made)
        if rows and chance.random() < 0.5:
            posting.remove(schema.credential_versions, rows.pop(chance.randrange(len(rows))))
        rows.append((f"n{chance.randrange(4)}", "c", number))
        posting.add(schema.credential_versions, rows[-1])
        assert posting.total == ledger(rows).total
        made.commit(posting)
        for host in ("n0", "n1", "n2", "n3"):
            owned = [row for row in rows if row[0] == host]
            assert Posting(made).owns(schema.credential_versions, host, owned)
            assert not owned or not Posting(made).owns(schema.credential_versions, host, owned[1:])
    posting = Posting(made)
    for host in ("n0", "n1", "n2", "n3"):
        posting.drop(schema.credential_versions, host)
    made.commit(posting)
    assert made.is_empty and made.total == 0


def test_nothing_counts_before_it_is_committed() -> None:
    made = ledger(ROWS)
    before, posting = made.total, Posting(made)
    posting.add(schema.credential_versions, ("n3", "a", 1))
    assert made.total == before != posting.total
    assert posting.owns(schema.credential_versions, "n3", [("n3", "a", 1)])


def test_the_record_is_of_these_rows_and_this_key() -> None:
    made = ledger(ROWS)
    stored = made.record(Record(7, 41), made.total)
    assert made.standing(stored) == (Standing.SOUND, Record(7, 41))
    assert made.standing(None) == (Standing.MISSING, Record())
    forged = [
        stored.replace("7 ", "8 ", 1),
        stored.replace(" 41 ", " 42 "),
        f"07 41 {stored[-64:]}",
        stored + " ",
        stored.upper(),
        "",
        "7 41",
        "9" * 40 + stored[1:],
        "٧ 41 " + stored[-64:],
        ledger(ROWS[1:]).record(Record(7, 41), ledger(ROWS[1:]).total),
        ledger(ROWS, Secret(bytes(32))).record(Record(7, 41), made.total),
    ]
    assert [made.standing(text)[0] for text in forged] == [Standing.ALTERED] * len(forged)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", None), ("a", "")),
        ((1,), ("1",)),
        ((b"1",), ("1",)),
        (("1:s1:a",), ("1", "a")),
        ((1.0,), (1,)),
        (("a",), ("a", None)),
    ],
)
def test_no_two_rows_read_the_same(one: Row, other: Row) -> None:
    assert _encode(one) != _encode(other)
