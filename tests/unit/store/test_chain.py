"""The chain of the audit log: editing, removing, swapping or inserting a line is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.secret import Secret
from provision.store import chain
from provision.store.audit import Audit, verify
from provision.store.chain import Head
from provision.store.keys import MasterKey
from tests.helpers.audit_samples import KEY, fill, lines, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


# Tampering


def edit(content: bytes) -> bytes:
    return content.replace(b'"n2"', b'"n7"')


def remove(content: bytes) -> bytes:
    return b"".join(line for line in content.splitlines(True) if b'"n2"' not in line)


def swap(content: bytes) -> bytes:
    first, second, *rest = content.splitlines(True)
    return b"".join([second, first, *rest])


def insert(content: bytes) -> bytes:
    first, *rest = content.splitlines(True)
    return b"".join([first, first, *rest])


def junk(content: bytes) -> bytes:
    first, *rest = content.splitlines(True)
    return b"".join([first, b'{"seq":2}\n', *rest])


def behead(content: bytes) -> bytes:
    return b"".join(content.splitlines(True)[1:])


def rechain(content: bytes) -> bytes:
    """What an attacker with a key of his own would write."""
    key, head, result = Secret(bytes(32)), chain.START, b""
    for line in content.splitlines():
        fields = json.loads(line)
        fields.pop("chain")
        new, head = chain.encode(key, head, fields.pop("seq"), fields)
        result += new
    return result


@pytest.mark.parametrize("change", [edit, remove, swap, insert, junk, behead, rechain])
def test_changed_lines_are_seen(path: Path, change: Callable[[bytes], bytes]) -> None:
    fill(path)
    assert verify(path, KEY).ok and verify(path, KEY).problem is None
    changed = change(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    result = verify(path, KEY)
    assert not result.ok and result.problem is not None and "line" in result.problem


@pytest.mark.parametrize("kept", range(5))
def test_a_cut_tail_is_seen(path: Path, kept: int) -> None:
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(True)[:kept]))
    result = verify(path, KEY)
    assert result.problems == (f"the log was cut at its end: entries {kept + 1} to 5 are missing",)


def test_a_cut_tail_is_seen_after_a_restart_too(path: Path) -> None:
    fill(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:3]))
    log = opened(path)
    log.record({"event": "after"}, durable=True)
    assert not log.verify().ok
    log.close()
    assert [line["seq"] for line in lines(path)] == [1, 2, 3, 6, 7]
    assert lines(path)[3]["reason"] == "entries 4 to 5 were missing at the end of the log"
    assert verify(path, KEY).problems == ("line 4: the log was cut here: entries 4 to 5 are missing",)


def test_a_missing_or_forged_head_is_seen(path: Path) -> None:
    fill(path)
    head = path.with_suffix(".head")
    honest = head.read_bytes()
    for forged in (b"", honest.replace(b"05 ", b"03 "), b"x" * len(honest)):
        head.write_bytes(forged)
        assert "head file" in str(verify(path, KEY).problem)
    head.unlink()
    assert "head file" in str(verify(path, KEY).problem)
    opened(path).close()
    assert lines(path)[-1]["event"] == "recovered" and not verify(path, KEY).ok


def test_a_rolled_back_log_is_seen_by_the_journals_witness(path: Path) -> None:
    fill(path, 3)
    old = path.read_bytes(), path.with_suffix(".head").read_bytes()
    fill(path, 3)
    witness = Head(6, lines(path)[-1]["chain"])
    assert verify(path, KEY, [witness]).ok
    path.write_bytes(old[0])
    path.with_suffix(".head").write_bytes(old[1])
    assert verify(path, KEY).ok, "nobody but the journal knows"
    assert not verify(path, KEY, [witness]).ok
    log = opened(path)
    for _ in range(3):
        log.record({"event": "forged"}, durable=True)
    log.close()
    assert "entry 6 is another than was written" in str(verify(path, KEY, [witness]).problem)


def test_a_log_that_ends_wrong_is_not_continued(path: Path) -> None:
    fill(path)
    content = path.read_bytes()
    for broken in (content.replace(b'"n4"', b'"n5"'), content + b"{}\n", b"x" * 200_000):
        path.write_bytes(broken)
        with pytest.raises(Unavailable, match="audit log does not end"):
            opened(path)
        assert path.read_bytes() == broken


def test_another_key(path: Path) -> None:
    fill(path)
    assert len(verify(path, MasterKey(Secret(bytes(32)))).problems) > 1
    with pytest.raises(Unavailable):
        Audit(path, MasterKey(Secret(bytes(32))))
