"""A base image that is told by which keys to know its site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provision.media.importing import ImportProblems, ImportRequest
from provision.media.library import Library
from provision.media.newc import MARKER
from provision.media.site_archive import site_archive
from tests.fixtures.media import archive, image_archive, kernel, write

KEYS = site_archive([b"k" * 32], [], [])


def request(tmp_path: Path, features: bytes) -> ImportRequest:
    files = {"init": b"#!/bin/sh\n", MARKER: b"1\n", "etc/provision-seed-features": features}
    return ImportRequest("base", write(tmp_path / "k", kernel()), (write(tmp_path / "i", archive(files)),))


def test_the_keys_are_the_last_initrd_and_make_another_image(tmp_path: Path) -> None:
    wanted = request(tmp_path, b"signed\n")
    base = Library(tmp_path / "state").import_base(replace(wanted, site_archive=KEYS))
    assert [initrd.path.name for initrd in base.initrds] == ["initrd0.img", "initrd1.img"]
    assert base.initrds[1].path.read_bytes() == KEYS and len(KEYS) % 512 == 0
    base.verify()
    assert base.iso.path.read_bytes().count(KEYS.rstrip(b"\0")) == 1, "and on its media"
    assert Library(tmp_path / "other").import_base(wanted).id != base.id


def test_an_image_that_checks_no_signatures_is_refused(tmp_path: Path) -> None:
    plain = ImportRequest("base", write(tmp_path / "k", kernel()), (write(tmp_path / "i", image_archive()),))
    for wanted in (plain, request(tmp_path, b"alive\n")):
        with pytest.raises(ImportProblems) as refused:
            Library(tmp_path / "state").import_base(replace(wanted, site_archive=KEYS))
        assert ["leave out --site-keys" in problem.remedy for problem in refused.value.problems] == [True]
