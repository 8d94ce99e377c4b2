"""Plans and reading through them."""

from __future__ import annotations

import hashlib
import os
import stat
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
            reader.write_to(Path(directory, "out"))
        assert Path(directory, "out").read_bytes() == copy


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


def test_writing_keeps_holes_and_patches_in_holes(tmp_path: Path) -> None:
    size = 8 << 20
    with (tmp_path / "sparse").open("wb") as file:
        file.write(b"head")
        file.truncate(size)
    plan = Plan(tmp_path / "sparse", "0" * 64, size, (Patch(5 << 20, b"patched"),), "r")
    out = tmp_path / "out"
    seen: list[float] = []
    with Reader(plan) as reader:
        reader.write_to(out, lambda stage, done: seen.append(done))
        assert hashlib.sha256(out.read_bytes()).hexdigest() == reader.digest()
    assert out.stat().st_blocks * 512 < 1 << 20
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert seen[-1] == 1.0
    assert seen == sorted(seen)


def test_writing_replaces_a_file_whole_or_not_at_all(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "dir" / "out"
    out.parent.mkdir()
    out.write_bytes(b"old")
    with Reader(plan_over(base)) as reader:
        os.truncate(base, 100)
        with pytest.raises(Unavailable):
            reader.write_to(out)
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_file_system_without_unnamed_files(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    real = os.open

    def without(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, mode)

    def interrupt(stage: str, done: float) -> None:
        if interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", without)
    out = tmp_path / "dir" / "out"
    out.parent.mkdir()
    with Reader(plan_over(base)) as reader:
        try:
            reader.write_to(out, interrupt)
        except KeyboardInterrupt:
            assert interrupted
    assert [path.name for path in out.parent.iterdir()] == ([] if interrupted else ["out"])


def test_a_device_or_a_missing_directory_is_no_target(base: Path, tmp_path: Path) -> None:
    with Reader(plan_over(base)) as reader:
        with pytest.raises(Invalid, match="/dev/null: is not a regular file"):
            reader.write_to(Path("/dev/null"))
        with pytest.raises(Unavailable, match=r"could not be written \(No such file"):
            reader.write_to(tmp_path / "absent" / "out")


def test_a_full_disk_is_one_line_and_leaves_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with Reader(plan_over(base)) as reader, pytest.raises(Unavailable, match="No space left on device"):
        reader.write_to(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
