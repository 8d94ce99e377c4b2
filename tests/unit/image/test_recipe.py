"""Recipes: everything that is wrong is said at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision import assets
from provision.errors import NotFound, Problems
from provision.image import recipe
from provision.image.recipe import Action, Scope
from tests.helpers.image_samples import loaded


def problems(text: str) -> list[str]:
    with pytest.raises(Problems) as raised:
        recipe.parse(text.encode(), "r.yaml", Path())
    assert str(raised.value).startswith("r.yaml: ")
    return [str(problem) for problem in raised.value.problems]


def test_rules_know_their_lines_and_their_order() -> None:
    text = "rules:\n  files:\n    - drop: [/a/**]\n    - keep:\n        - /a/b\n        - /a/c\n"
    text += "  modules:\n    - needed: ['*']\n"
    rules = loaded(text).rules(Scope.FILES)
    assert [(r.action, r.pattern, r.line) for r in rules] == [
        (Action.DROP, "/a/**", 5),
        (Action.KEEP, "/a/b", 7),
        (Action.KEEP, "/a/c", 8),
    ]
    assert str(rules[0]) == "'drop /a/**' (recipe.yaml:5)"
    assert loaded(text).rules(Scope.MODULES)[0].action is Action.NEEDED


def test_all_problems_come_at_once_with_their_lines() -> None:
    text = (
        "name: x y\npackges: [a]\npackages: [A, bb]\nrules:\n  files:\n    - drop: [/a b]\n      keep: [/c]\n"
        "units: {enable: [sshd]}\nsquashfs: {block: 5000}\n"
    )
    assert problems(text) == [
        "r.yaml:1: name: 'x y' is not allowed; a package's name has lower-case letters, digits and +-.",
        "r.yaml:2: packges: unknown key 'packges'; did you mean 'packages'?",
        "r.yaml:3: packages.0: 'A' is not allowed; a package's name has lower-case letters, digits and +-.",
        "r.yaml:6: rules.files.0.drop.0: '/a b' is not allowed; a pattern has no spaces",
        "r.yaml:8: units.enable.0: 'sshd' is not allowed; write a unit with its suffix, such as sshd.service",
        "r.yaml:9: squashfs.block: '5000' is too large; the most is 1024",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules:\n  files:\n    - drop: [/a]\n      keep: [/c]\n", "r.yaml:5: rules.files.0: has not exactly one of"),
        ("packages: [bb]\n", "r.yaml:3: packages: 'packages' is written twice"),
        ("units:\n  enable: [a.service]\n  mask: [a.service]\n", "r.yaml:5: units.mask.0: a.service is enabled too"),
        (
            "units:\n  enable: [a.service,\n    a.service]\n",
            "r.yaml:5: units.enable.1: a.service is named twice, first",
        ),
        ("users:\n  a: {id: 7}\n  b: {id: 7}\n", "r.yaml:5: users.b: has the number 7 of a"),
        ("users:\n  a:\n    id: 7\n    groups: [kvm]\n", "r.yaml:6: users.a.groups.0: there is no group kvm"),
        ("directories: {/tmp: '9999'}\n", "directories./tmp: '9999' is not allowed; write a mode as octal"),
    ],
)
def test_what_no_single_value_shows(text: str, said: str) -> None:
    found = problems("name: xx\npackages: [aa]\n" + text)
    assert any(problem.startswith(said) or said in problem for problem in found), found


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"recipe.yaml: cannot be read"):
        recipe.load(tmp_path / "recipe.yaml")


def test_the_shipped_recipe_is_sound() -> None:
    shipped = recipe.load(assets.directory("images") / "host" / "recipe.yaml")
    assert len(shipped.rules(Scope.FILES)) > 100 and "libvirt-daemon-system" in shipped.recipe.packages
