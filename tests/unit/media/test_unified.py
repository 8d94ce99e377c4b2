"""Signed images of bases: the same bytes every time, whole or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pefile
import pytest

from provision.errors import Unavailable
from provision.media import unified
from provision.media.unified import UnifiedImages
from tests.helpers.killing import killed_before
from tests.helpers.site_fixture import Site, site
from tests.unit.media.test_unified_medium import program

ABOUT = "c" * 64, "s" * 64, "quiet"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def test_an_image_has_what_the_base_boots_and_the_site_archive_last(here: Site) -> None:
    made = unified.build(here.base, b"S" * 512, ("console=ttyS0", "quiet"))
    assert made == unified.build(here.base, b"S" * 512, ("console=ttyS0", "quiet"))
    image = pefile.PE(data=made)  # type: ignore[no-untyped-call]
    found = {s.Name.rstrip(b"\0").decode(): s.get_data()[: s.Misc_VirtualSize] for s in image.sections}
    assert found[".linux"] == here.base.kernel.path.read_bytes()
    assert found[".initrd"] == b"".join(one.path.read_bytes() for one in here.base.initrds) + b"S" * 512
    assert found[".cmdline"] == b"console=ttyS0 quiet" and b"ID=provision" in found[".osrel"]


def test_its_kernel_is_told_which_image_it_is_and_starts_again_by_itself(here: Site) -> None:
    line = unified.command_line(here.base, ("panic=0", "provision.image=other"))
    own = f"provision.image={here.base.id[:16]}"
    assert line == ("panic=10", "systemd.watchdog_sec=60", "console=ttyS0", "panic=0", "provision.image=other", own)


@pytest.mark.integration
def test_what_a_slot_has_of_it_is_built_once_and_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    images, base = UnifiedImages(tmp_path), "b" * 64
    made = images.put(base, b"image" * 5000, *ABOUT)
    entry = images.slot(made)
    assert entry == images.slot(made) == UnifiedImages(tmp_path).slot(made)
    assert entry.sha256 == hashlib.sha256(entry.path.read_bytes()).hexdigest()
    assert program(entry.path, tmp_path) == b"image" * 5000
    images.put(base, b"other" * 5000, *ABOUT)
    assert not entry.path.exists()


def test_a_missing_stub_is_said(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unified, "STUB", Path("/nonexistent/stub"))
    with pytest.raises(Unavailable, match=r"cannot be read .*; apt-get install systemd-boot-efi"):
        unified.build(here.base, b"", ())


def test_an_image_is_kept_whole_and_forgotten(tmp_path: Path) -> None:
    images, base = UnifiedImages(tmp_path), "b" * 64
    assert images.get(base) is None
    made = images.put(base, b"image", *ABOUT)
    assert images.get(base) == made and made.file.path.read_bytes() == b"image"
    assert (made.certificate, made.site, made.command_line) == ABOUT
    made.file.path.write_bytes(b"imag")
    assert images.get(base) is None, "it was cut off"
    images.put(base, b"other", *ABOUT)
    images.remove(base)
    assert images.get(base) is None and list((tmp_path / "unified").iterdir()) == []


def test_a_kill_between_any_two_steps_leaves_the_earlier_image_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed again, an image is often as large as before."""
    base, other, step, killed = "b" * 64, ("d" * 64, "t" * 64, "verbose"), 0, True
    seen = set()
    while killed:
        step += 1
        images = UnifiedImages(tmp_path / str(step))
        (tmp_path / str(step)).mkdir()
        images.put(base, b"image", *ABOUT)
        killed = killed_before(step, lambda images=images: images.put(base, b"other", *other), monkeypatch)  # type: ignore[misc]
        found = images.get(base)
        assert found is not None, step
        content = found.file.path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == found.file.sha256, step
        assert (content, found.certificate) in ((b"image", ABOUT[0]), (b"other", other[0])), step
        seen.add(content)
        again = images.put(base, b"again", *ABOUT)
        assert {path.name for path in (tmp_path / str(step) / "unified").iterdir()} == {
            f"{base}.json",
            again.file.path.name,
        }
    assert seen == {b"image", b"other"} and step > 5, "so many steps there are at least"


def test_an_image_of_an_earlier_version_is_found_and_replaced(tmp_path: Path) -> None:
    images, base = UnifiedImages(tmp_path), "b" * 64
    made, about = images.put(base, b"image", *ABOUT), tmp_path / "unified" / f"{base}.json"
    earlier = made.file.path.rename(tmp_path / "unified" / f"{base}.efi")
    record = {name: value for name, value in json.loads(about.read_bytes()).items() if name != "file"}
    about.write_text(json.dumps(record))
    assert images.get(base) == replace(made, file=replace(made.file, path=earlier))
    images.put(base, b"other", *ABOUT)
    assert not earlier.exists()


def test_an_image_that_is_signed_again_while_it_is_looked_up_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that starts in that moment is not told that nobody has signed its image."""
    images, base, left = UnifiedImages(tmp_path), "b" * 64, [b"other"]
    images.put(base, b"image", *ABOUT)
    loads = json.loads

    def read(text: bytes) -> Any:
        found = loads(text)
        if left:
            images.put(base, left.pop(), *ABOUT)
        return found

    monkeypatch.setattr(json, "loads", read)
    found = images.get(base)
    assert found is not None and found.file.path.read_bytes() == b"other"
