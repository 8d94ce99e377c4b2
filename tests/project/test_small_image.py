"""What the small image does without is in the host image's recipe: a word that fits nothing there says that the recipe
has changed, and that boots are slower for it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from tests.helpers.paths import FIXTURES, ROOT
from tests.helpers.small_image import smaller

RECIPE: dict[str, Any] = yaml.safe_load((ROOT / "images/host/recipe.yaml").read_text())
WITHOUT: dict[str, list[str]] = yaml.safe_load((FIXTURES / "small-host/without.yaml").read_text())
PLACES: dict[str, Any] = {
    "files": RECIPE["rules"]["files"],
    "always": RECIPE["always"],
    "units": RECIPE["units"]["enable"],
    "opens": RECIPE["opens"],
    "requests": RECIPE["requests"],
    "links": RECIPE["links"],
}


def words(of: Any) -> Iterator[str]:
    """All words below a place of the recipe, keys included."""
    if isinstance(of, dict):
        yield from of
    if isinstance(of, dict | list):
        for one in of.values() if isinstance(of, dict) else of:
            yield from words(one)
    elif isinstance(of, str):
        yield of


@pytest.mark.parametrize("place", PLACES)
def test_each_word_fits_something(place: str) -> None:
    there = set(words(PLACES[place]))
    assert [word for word in WITHOUT[place] if not any(fnmatchcase(one, word) for one in there)] == []


def test_nothing_is_left_of_it_and_all_else_is() -> None:
    found = smaller(deepcopy(RECIPE))
    assert "libvirtd.service" not in found["units"]["enable"] and "ssh.service" in found["units"]["enable"]
    kept = {word for rule in found["rules"]["files"] for word in words(rule.get("keep", []))}
    assert "/usr/bin/virsh" not in kept and {"/usr/bin/klist", "/usr/bin/klist.mit", "/usr/bin/tpm2*"} <= kept
    assert found["applets"] == RECIPE["applets"] and found["initramfs"] == RECIPE["initramfs"]
