"""Plans and reading through them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.errors import Invalid, Unavailable
from provision.media.layout import MediumLayout, medium_plan
from provision.media.plan import Patch, Plan, Slot
from provision.media.reader import Reader

SIZE = 4096


def plan_over(path: Path, *patches: Patch, revision: str = "r1") -> Plan:
    content = path.read_bytes()
    return Plan(path, hashlib.sha256(content).hexdigest(), len(content), patches, revision)


def layout_of(path: Path) -> MediumLayout:
    slots = {"grub.cfg": Slot(512, 64), "seed": Slot(1024, 2048)}
    return MediumLayout(path, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), slots)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


@st.composite
def patch_sets(draw: st.DrawFn) -> tuple[Patch, ...]:
    edges = sorted(draw(st.lists(st.integers(0, SIZE), max_size=12, unique=True)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return tuple(Patch(low, draw(st.binary(min_size=high - low, max_size=high - low))) for low, high in pairs)


@settings(max_examples=60, deadline=None)
@given(patch_sets(), st.lists(st.tuples(st.integers(0, SIZE + 9), st.integers(0, SIZE + 9)), min_size=1, max_size=20))
def test_reads_equal_a_patched_copy_at_any_range(patches: tuple[Patch, ...], ranges: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory(prefix="provision-plan-") as directory:
        path = Path(directory, "base")
        path.write_bytes(bytes(range(256)) * (SIZE // 256))
        copy = bytearray(path.read_bytes())
        for patch in patches:
            copy[patch.offset : patch.offset + len(patch.data)] = patch.data
        with Reader(plan_over(path, *patches)) as reader:
            for offset, length in ranges:
                assert reader.pread(offset, length) == copy[offset : offset + length]
            assert b"".join(reader.chunks(size=97)) == copy
            assert reader.digest() == hashlib.sha256(copy).hexdigest()


def test_overlapping_and_outside_patches_are_refused(base: Path) -> None:
    for patches in ([Patch(0, b"aa"), Patch(1, b"b")], [Patch(SIZE - 1, b"ab")], [Patch(9, b"a"), Patch(3, b"b")]):
        with pytest.raises(ValueError, match="overlaps"):
            plan_over(base, *patches)


def test_etag_follows_base_and_patches_only(base: Path) -> None:
    tag = plan_over(base, Patch(1, b"x")).etag
    assert tag == plan_over(base, Patch(1, b"x"), revision="r2").etag
    others = [plan_over(base), plan_over(base, Patch(2, b"x")), plan_over(base, Patch(1, b"y"))]
    base.write_bytes(b"\0" * SIZE)
    others.append(plan_over(base, Patch(1, b"x")))
    assert len({tag, *(plan.etag for plan in others)}) == 5


def test_a_plan_shows_no_content(base: Path) -> None:
    assert "canary" not in repr(plan_over(base, Patch(1, b"canary")))


def test_medium_plan_fills_the_slots(base: Path) -> None:
    with Reader(medium_plan(layout_of(base), {"seed": b"SEED", "grub.cfg": b"boot\n"}, "r7")) as reader:
        assert reader.plan.revision == "r7"
        assert reader.pread(512, 6) == b"boot\n" + base.read_bytes()[517:518]
        assert reader.pread(1023, 6) == b"\xffSEED\x04"


def test_what_does_not_fit_its_slot_is_refused_with_the_way_out(base: Path) -> None:
    with pytest.raises(Invalid, match=r"^seed: is 2049 bytes, and the medium has room for 2048; .*--seed-size$"):
        medium_plan(layout_of(base), {"seed": b"x" * 2049, "grub.cfg": b""}, "r")
    with pytest.raises(Invalid, match=r"^grub.cfg: is 65 bytes"):
        medium_plan(layout_of(base), {"seed": b"", "grub.cfg": b"x" * 65}, "r")


@pytest.mark.parametrize("names", [["seed"], ["seed", "grub.cfg", "isolinux.cfg"]])
def test_every_slot_gets_a_content_and_no_other(base: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="slots"):
        medium_plan(layout_of(base), dict.fromkeys(names, b""), "r")


def test_a_base_that_is_gone_or_cut_short_is_one_line(base: Path) -> None:
    plan = plan_over(base)
    with Reader(plan) as reader:
        os.truncate(base, 100)
        with pytest.raises(
            Unavailable, match=f"{base}: ends at byte 100 instead of {SIZE}; import the base image again"
        ):
            reader.pread(0, SIZE)
        assert len(reader.pread(0, 100)) == 100
    with pytest.raises(Unavailable, match="has 100 bytes instead of 4096"):
        Reader(plan)
    base.unlink()
    with pytest.raises(Unavailable, match=r"cannot be opened \(No such file"):
        Reader(plan)


def test_a_deleted_base_is_read_on_by_who_has_it_open(base: Path) -> None:
    content = base.read_bytes()
    with Reader(plan_over(base)) as reader:
        base.unlink()
        assert reader.pread(0, SIZE) == content
