"""Tables: a line for each row in a pipe, and nothing cut on a narrow terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.cli import output, tables
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import closed_site

DIGEST = "0123456789abcdef" * 4
COLUMNS = ("NAME", "SHA256", "REASON")
ROWS = [("node1", DIGEST, "it has no window that is open now"), ("n2", "-", "-")]
CELL = st.text("ab1:-", min_size=1, max_size=70) | st.lists(st.text("abc", min_size=1, max_size=9)).map(" ".join)


def test_a_row_is_a_line_without_blanks_at_its_end() -> None:
    assert tables.lines(COLUMNS, ROWS) == [
        f"NAME   SHA256{' ' * 58}  REASON",
        f"node1  {DIGEST}  it has no window that is open now",
        f"n2     -{' ' * 63}  -",
    ]


def test_texts_are_wrapped_between_words() -> None:
    rows = [("node1", "it has no window that is open now")]
    assert tables.lines(("NAME", "REASON"), rows, 30) == [
        "NAME   REASON",
        "node1  it has no window that",
        "       is open now",
    ]


def test_what_does_not_fit_becomes_a_record() -> None:
    assert tables.lines(COLUMNS, ROWS, 80) == [
        "NAME    node1",
        f"SHA256  {DIGEST}",
        "REASON  it has no window that is open now",
        "",
        "NAME    n2",
        "SHA256  -",
        "REASON  -",
    ]
    assert tables.lines(COLUMNS, [], 10) == ["NAME  SHA256  REASON"]


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=4), st.none() | st.integers(1, 200))
def test_no_word_is_ever_cut(rows: list[tuple[str, str, str]], width: int | None) -> None:
    shown = tables.lines(COLUMNS, rows, width)
    words = [word for line in shown for word in line.split()]
    assert all(word in words for row in rows for cell in row for word in cell.split())
    assert all(line == line.rstrip() for line in shown)
    assert width is not None or len(shown) == 1 + len(rows)


@pytest.mark.parametrize("width", [20, 80, 160])
def test_an_operator_can_copy_everything_from_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    state = closed_site(tmp_path)
    monkeypatch.setattr(output, "terminal_width", lambda: width)
    for command, keys in (
        (("host", "list"), ("name", "macs")),
        (("credential", "list"), ("host", "name", "sha256", "path")),
        (("image", "list"), ("name", "id")),
        (("audit", "--host", "node1"), ("host", "operator")),
    ):
        shown = cli(state, *command).out.split()
        for row in cli(state, *command, "--json").json:
            values = [row[key] for key in keys if row.get(key)]
            assert all(one in shown for value in values for one in (value if isinstance(value, list) else [value]))


def test_a_pipe_gets_a_line_for_each_row(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    for command in (("host", "list"), ("credential", "list"), ("image", "list"), ("audit", "--host", "node1")):
        lines = cli(state, *command).out.splitlines()
        assert len(lines) == 1 + len(cli(state, *command, "--json").json), command
        assert all(line == line.rstrip() for line in lines)


def test_what_is_so_of_several_media_is_said_once(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    assert cli(state, "credential", "remove", "node2", "token").code == 0
    rows = cli(state, "explain", "node2", "--json").json
    lines = cli(state, "explain", "node2").out.splitlines()
    assert len(rows) > 2 and not any(row["allowed"] for row in rows)
    reasons = {row["reason"] for row in rows}
    assert sum(line.count(reason) for line in lines for reason in reasons) == len(reasons)
    assert any(line.startswith("all: ") for line in lines) == (len(reasons) == 1)
    assert len(lines) > 1 + len(rows), "a table, and the reasons below it"


def test_one_long_text_does_not_make_every_row_as_long() -> None:
    made = tables.lines(("NAME", "TEXT", "N"), [("a", "x" * 60_000, "1"), *[("b", "y", "2")] * 1000])
    assert made[1] == f"a     {'x' * 60_000}  1"
    assert max(map(len, made[2:])) < 140
