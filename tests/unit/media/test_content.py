"""Content: bytes by offset, from a plan and from memory, and what happens when the file is not what it was."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.media.content import Memory, PlanContent, open_file
from provision.media.plan import Patch, Plan

BASE = hashlib.shake_256(b"base").digest(100_000)
WANTED = b"head" + BASE[4:5_000] + b"seed" * 100 + BASE[5_400:]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "base").write_bytes(BASE)
    return Plan(tmp_path / "base", "", len(BASE), (Patch(0, b"head"), Patch(5_000, b"seed" * 100)), "r")


def test_reads_through_the_patches(plan: Plan) -> None:
    content = PlanContent(plan)
    assert content.size == 100_000
    for offset, length in [(0, 100_000), (3, 2), (4_999, 402), (5_100, 10), (99_999, 1)]:
        assert content.read(offset, length) == WANTED[offset : offset + length]
        now = content.read_now(offset, length)
        assert now is not None
        assert now
        assert WANTED[offset : offset + length].startswith(now)
    content.close()
    content.close()


def test_what_is_the_base_s_own_and_what_is_not(plan: Plan) -> None:
    content = PlanContent(plan)
    places = [0, 2, 4, 4_999, 5_000, 5_399, 5_400]
    assert [content.unpatched_length(at, 90_000) for at in places] == [0, 0, 4_996, 1, 0, 0, 84_600]
    assert [content.next_patch_end(at, 90_000) for at in places] == [4, 4, *[5_400] * 4, 90_000]
    assert content.next_patch_end(0, 2) == 2
    content.close()


def test_a_cold_file_is_not_waited_for(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can have a file cold: the kernel need not drop pages when asked. So its answer is played."""
    content, asked = PlanContent(plan), list[int]()

    def cold(descriptor: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        asked.append(flags)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", cold)
        assert content.read_now(0, 100_000) is None
        assert not content.is_warm(0, 100_000)
        assert content.read(0, 100_000) == WANTED
    assert asked == [os.RWF_NOWAIT] * 2
    assert content.read_now(0, 100_000) == WANTED
    assert content.is_warm(0, 100_000)


def test_a_removed_base_does_not_hurt_who_has_begun(plan: Plan) -> None:
    content = PlanContent(plan)
    plan.base.unlink()
    assert content.read(0, 100_000) == WANTED
    with pytest.raises(Unavailable, match=r"base: cannot be opened \(No such file"):
        PlanContent(plan)


def test_a_truncated_base_is_an_error(plan: Plan) -> None:
    content = PlanContent(plan)
    os.truncate(plan.base, 50_000)
    assert content.read_now(60_000, 10) is None
    with pytest.raises(Unavailable, match="ends at byte 50000 instead of 100000; import the base image again"):
        content.read(40_000, 20_000)
    with pytest.raises(Unavailable, match="has 50000 bytes instead of 100000"):
        PlanContent(plan)


def test_plain_files_and_memory(plan: Plan) -> None:
    assert open_file(plan.base, 100_000, "00").read(0, 100_000) == BASE
    memory = Memory(b"0123456789")
    assert (memory.size, memory.read(2, 3), memory.read_now(8, 9)) == (10, b"234", b"89")
