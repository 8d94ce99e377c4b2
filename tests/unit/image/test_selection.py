"""Rules: which one decides about a path."""

from __future__ import annotations

import pytest

from provision.image import patterns, selection, tree
from provision.image.recipe import Action
from provision.image.tree import Tree
from tests.helpers.image_samples import file, link, loaded, module


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/**", "/a/b/c", True),
        ("/a/**/c", "/a/b/b/c", True),
        ("/a/?.so", "/a/b.so", True),
        ("/a/[!b]", "/a/b", False),
        ("/a/[", "/a/[", True),
        ("/a/{b,c+}.so", "/a/c+.so", True),
        ("/a/{b,c}.so", "/a/d.so", False),
        ("/a.b", "/a_b", False),
    ],
)
def test_patterns(pattern: str, text: str, expected: bool) -> None:
    assert patterns.matches(pattern, text) is expected
    assert text.startswith(patterns.stem(pattern)) or not expected
    assert patterns.is_plain(pattern) == (pattern == "/a.b")


def decided(text: str, *nodes: tree.Node) -> dict[str, str]:
    chosen = selection.select(Tree(nodes), loaded(text))
    return {path.rsplit("/", 1)[-1]: decision.action.value for path, decision in chosen.decisions.items()}


def test_the_last_rule_that_matches_wins() -> None:
    text = "rules:\n  files:\n    - drop: [/d/**]\n    - keep: [/d/b, /d/c]\n    - needed: [/d/c*]\n"
    nodes = [file("d/a"), file("d/b"), file("d/c"), file("e")]
    assert decided(text, *nodes) == {"a": "drop", "b": "keep", "c": "needed", "e": "keep"}


def test_a_rule_for_files_says_more_than_one_for_a_package() -> None:
    text = "rules:\n  packages:\n    - drop: [oth*]\n  files:\n    - keep: [/a]\n"
    nodes = [file("a", source="other"), file("b", source="other"), file("c")]
    assert decided(text, *nodes) == {"a": "keep", "b": "drop", "c": "keep"}


def test_modules_go_by_name_and_by_place() -> None:
    text = "rules:\n  modules:\n    - needed: ['*']\n    - keep: [net/**, virtio-*]\n    - drop: [e100]\n"
    nodes = [module("net/e100"), module("net/e1000"), module("block/virtio_blk"), module("fs/xfs")]
    wanted = {"e100.ko": "drop", "e1000.ko": "keep", "virtio_blk.ko": "keep", "xfs.ko": "needed"}
    assert decided(text, *nodes) == wanted


def test_python_modules_go_with_what_is_below_them() -> None:
    text = "rules:\n  python:\n    - needed: ['*']\n    - keep: [json]\n    - drop: [json.tool]\n"
    top = "usr/lib/python3.11"
    nodes = [file(f"{top}/{p}") for p in ("json/__init__.py", "json/tool.py", "jsonx.py", "lib-dynload/_json.abi3.so")]
    assert decided(text, *nodes) == {
        "__init__.py": "keep",
        "tool.py": "drop",
        "jsonx.py": "needed",
        "_json.abi3.so": "needed",
    }


def test_what_the_recipe_brings_is_kept_whatever_rules_say() -> None:
    assert decided("rules:\n  files:\n    - drop: [/**]\n", tree.file("a", b""), file("b")) == {
        "a": "keep",
        "b": "drop",
    }


def test_rules_that_decide_nothing_are_known() -> None:
    text = "rules:\n  files:\n    - drop: [/a, /nowhere]\n    - keep: [/a, /gone]\n"
    idle = selection.select(Tree([file("a"), link("l", "a")]), loaded(text)).idle
    assert [rule.pattern for rule in idle] == ["/a", "/nowhere", "/gone"]
    assert [rule.pattern for rule in selection.unmatched(idle)] == ["/gone"]
    assert idle[0].action is Action.DROP
