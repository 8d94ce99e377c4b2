"""What a build keeps for the next one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision.image.cache import Cache, digest, user_cache


def test_the_cache_makes_once_and_leaves_nothing_of_a_failure(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    calls: list[int] = []

    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.made("kind", "key", fail)
    assert list((tmp_path / "kind").iterdir()) == []

    def succeed() -> str:
        calls.append(1)
        return "made"

    for _ in range(2):
        assert cache.text("kind", "key", succeed) == "made"
    assert calls == [1]


def test_the_cache_forgets_what_was_of_use_longest_ago_and_what_was_broken_off(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number, name in enumerate("abc"):
        cache.text("kind", name, lambda: "")
        os.utime(tmp_path / "kind" / name, (number, number))
    cache.text("kind", "a", lambda: "never")
    cache.prune("kind", 2)
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == ["a", "c"]
    (tmp_path / "kind" / "new-x").mkdir()
    with cache.locked():
        assert not (tmp_path / "kind" / "new-x").exists()


def test_the_cache_follows_the_user_s_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "provision"
    assert digest("a", {"b": 1}) == digest("a", {"b": 1}) != digest("a", {"b": 2})
