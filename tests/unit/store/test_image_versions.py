"""Versions of images are one line, of which the lower end can be taken back."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.store_samples import open_store


def test_every_image_has_the_next_version_and_keeps_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.image_versions.known("a") is None and store.image_versions.least == 1
        assert [store.image_versions.version(base) for base in ("a", "b", "a", "c")] == [1, 2, 1, 3]
        assert store.image_versions.revoke("b") == 3
    with open_store(tmp_path) as store:
        assert store.image_versions.least == 3
        assert [store.image_versions.known(base) for base in ("a", "b", "c", "d")] == [1, 2, 3, None]
        assert [store.image_versions.is_revoked(base) for base in ("a", "b", "c", "d")] == [True, True, False, False]
        assert store.image_versions.revoke("a") == 3, "nothing comes back"
        assert store.image_versions.version("d") == 4
