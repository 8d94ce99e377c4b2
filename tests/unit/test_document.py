from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from provision import document
from provision.document import MAX_DEPTH, Source, read


def plain(text: str | bytes) -> Any:
    found = read(Source("f.yaml", text if isinstance(text, bytes) else text.encode()))
    assert found.problems == ()
    assert found.root is not None
    return found.root.plain()


def problem(text: str | bytes) -> tuple[int, str]:
    found = read(Source("f.yaml", text if isinstance(text, bytes) else text.encode()))
    (only,) = found.problems
    assert only.file == "f.yaml"
    assert found.root is None
    return only.line, f"{only.fact}; {only.remedy}"


@pytest.mark.parametrize(
    "text", ["52:54:00:12:34:56", "0600", "no", "off", "yes", "1.10", "0x10", "1_000", "2026-01-01", "true", "1e3"]
)
def test_scalars_stay_as_written(text: str) -> None:
    assert plain(f"a: {text}\nb: [{text}]\n") == {"a": text, "b": [text]}


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null_words_are_none_only_when_plain(text: str) -> None:
    assert plain(f"a: {text}\nb: '{text}'\n") == {"a": None, "b": text}


def test_keys_are_text_always() -> None:
    assert plain("12: a\nnull: b\nno: c\n") == {"12": "a", "null": "b", "no": "c"}


def test_lines_are_those_of_keys_and_items() -> None:
    root = read(Source("f", b"# comment\na:\n  b:\n    - x\n    - y: 1\n")).root
    assert root is not None
    a = root.child("a")
    assert a is not None and a.line == 2
    b = a.child("b")
    assert b is not None and b.line == 3
    assert [b.child(0).line, b.child(1).line] == [4, 5]  # type: ignore[union-attr]
    assert b.child(2) is None and root.child("zz") is None


def test_duplicate_keys_name_both_lines_and_the_path() -> None:
    found = read(Source("f.yaml", b"hosts:\n  a:\n    x: 1\n    x: 2\n    l:\n      - {k: 1, k: 2}\n  a: {}\n"))
    assert [(p.line, p.path) for p in found.problems] == [(4, "hosts.a.x"), (6, "hosts.a.l.0.k"), (7, "hosts.a")]
    assert "first in line 3" in found.problems[0].fact
    assert found.root is not None and found.root.plain()["hosts"]["a"]["x"] == "1"


def test_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    assert plain(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1,\n", 3, "not valid YAML"),
        ("a:\n\tb: 1\n", 2, "with spaces, not with tabs"),
        ("a: b: c\n", 1, "missing space, quote or indentation"),
        ("a: &x 1\nb: *x\n", 1, "anchors (&x)"),
        ("a: *x\n", 1, "aliases (*x) are not read; write it out"),
        ("a: !!python/name:os.system x\n", 1, "tags"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("? [a]\n: 1\n", 1, "key"),
        ("", 1, "empty"),
        ("# nothing\n", 1, "empty"),
        ('a: "x\\u202ey"\n', 1, "U+202E"),
        ('a: 1\nb: "\\0"\n', 2, "U+0000"),
    ],
)
def test_what_is_refused(text: str, line: int, words: str) -> None:
    found_line, said = problem(text)
    assert found_line == line
    assert words in said


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"a: 1\nb: \xff\n", 2, "byte 4 of the line is not UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "not UTF-8"),
        (b"a: 1\n\nb: \0\n", 3, "U+0000"),
        (b"a: \x1b[31m\n", 1, "U+001B"),
        ("# \u202e\na: 1\n".encode(), 1, "U+202E"),
        ("a: x\u2028y\n".encode(), 1, "U+2028"),
        ("a: 1\n# \u200b\n".encode(), 2, "U+200B"),
        ("a: 1\nb: \x85\n".encode(), 2, "U+0085"),
    ],
)
def test_bytes_that_are_refused(text: bytes, line: int, words: str) -> None:
    found_line, said = problem(text)
    assert (found_line, words in said) == (line, True), said


def test_depth_is_bounded_at_once() -> None:
    assert plain("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert "nested deeper than 32" in problem("[" * 1_000_000)[1]
    assert "nested deeper than 32" in problem("- " * 100_000)[1]


def test_size_and_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "values" in read(Source("f", b"[1, 2, 3]"), budget=3).problems[0].fact
    assert read(Source("f", b"[1, 2, 3]"), budget=4).values == 4
    monkeypatch.setattr(document, "MAX_BYTES", 10)
    assert "larger" in problem("a: 1234567890")[1]


def test_the_pure_python_reader_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: 52:54:00:12:34:56\nb: [~, no]\n"
    fast = plain(text)
    monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
    assert plain(text) == fast
    assert problem("a: [1\nb: 2\n")[0] == 2
    assert "aliases" in problem("a: *x\n")[1]


_PIECES = st.sampled_from(
    ["a", ":", " ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&a", "*a", "!!x", "'", '"', "|", ">", "\t", "#", "%",
     "---\n", "...\n", "? ", "\\x", "\u202e", "\0", "é", "<<", "~"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES, max_size=40).map("".join).map(str.encode) | st.binary(max_size=100))
def test_any_bytes_give_a_tree_or_problems(text: bytes) -> None:
    found = read(Source("f", text))
    assert (found.root is None) <= bool(found.problems)
    assert all("\n" not in str(p) and str(p).isprintable() for p in found.problems)
