"""The configuration partition keeps an identity whatever moment the power goes, and both of its readers agree."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Invalid
from provision.media import identity
from tests.helpers.host_programs import load
from tests.helpers.paths import ROOT

RECORD: Any = load("record")
SCRIPT = ROOT / "images/common/initramfs/identity"
SIZE = 64 * 1024
OLD, NEW = b"old identity\n" * 300, b"the new one\n" * 700


def partition(*writes: tuple[int, int, bytes], size: int = SIZE) -> bytearray:
    found = bytearray(size)
    for place, sequence, content in writes:
        for offset, data in identity.write(size, place, sequence, content):
            found[offset : offset + len(data)] = data
    return found


def shell(path: Path, commands: str) -> str:
    """Run the image's own functions on the partition, by BusyBox as the initramfs does."""
    head = f"part={path}; part_size={path.stat().st_size}; . {SCRIPT}; "
    argv = ["busybox", "sh", "-c", head + commands]
    env = {"PATH": str(path.parent / "bin")}
    (path.parent / "bin").mkdir(exist_ok=True)
    subprocess.run(["/bin/busybox", "--install", "-s", str(path.parent / "bin")], check=True, capture_output=True)
    return subprocess.run(argv, env=env, capture_output=True, check=True, text=True, executable="/bin/busybox").stdout


def test_the_newest_whole_copy_counts() -> None:
    assert identity.newest(bytes(SIZE)) is None
    found = identity.newest(bytes(partition((0, 1, OLD), (1, 2, NEW))))
    assert found == identity.Copy(1, 2, NEW)
    assert identity.newest(bytes(partition((0, 3, OLD), (1, 2, NEW)))) == identity.Copy(0, 3, OLD)


def test_a_disk_leaves_the_factory_with_one_copy() -> None:
    content = b"a seed" * 1000
    partition = identity.first(content).ljust(1 << 20, b"\0")
    assert identity.newest(partition) == identity.Copy(0, 1, content)


def test_what_does_not_fit_is_refused() -> None:
    most = identity.capacity(SIZE)
    assert identity.newest(bytes(partition((1, 1, b"x" * most)))) == identity.Copy(1, 1, b"x" * most)
    with pytest.raises(Invalid, match=f"holds {most} bytes in each copy"):
        identity.write(SIZE, 0, 1, b"x" * (most + 1))


def test_every_torn_write_leaves_the_old_or_the_new_one() -> None:
    before = partition((0, 1, OLD), (1, 2, OLD + b"2"))
    chance = random.Random(7)
    writes = identity.write(SIZE, 0, 3, NEW)
    for number, (offset, data) in enumerate(writes):
        state = bytearray(before)
        for done_offset, done in writes[:number]:
            state[done_offset : done_offset + len(done)] = done
        sectors = [range(at, min(at + 512, len(data))) for at in range(0, len(data), 512)]
        for _ in range(200):
            torn = bytearray(state)
            for sector in sectors:
                if chance.random() < 0.5:
                    part = slice(offset + sector.start, offset + sector.stop)
                    torn[part] = data[sector.start : sector.stop]
            found = identity.newest(bytes(torn))
            assert found is not None and found.content in (OLD + b"2", NEW)


def test_no_flipped_bit_of_a_copy_is_believed() -> None:
    whole = partition((0, 1, OLD))
    for at in [*range(260), identity.BLOCK, identity.BLOCK + len(OLD) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1
        assert identity.newest(bytes(damaged)) is None, at


def test_both_readers_agree(tmp_path: Path) -> None:
    path, content = tmp_path / "part", tmp_path / "content"
    path.write_bytes(bytes(SIZE))
    for number, data in enumerate((OLD, NEW, b"x", OLD[:4096], NEW), 1):
        content.write_bytes(data)
        shell(path, f"identity_write {content}")
        found = identity.newest(path.read_bytes())
        assert found == identity.Copy((number + 1) % 2, number, data)
        say = 'identity_find; identity_whole $newest; echo "$newest $newest_sequence"; identity_content $newest'
        assert shell(path, say) == f"{found.place} {number}\n{data.decode()}"


def test_the_image_s_reader_believes_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "part"
    whole = partition((0, 1, OLD), (1, 2, NEW))
    middle = SIZE // 2
    for at in (middle, middle + 25, middle + 100, middle + 200, middle + 4096, middle + 4096 + len(NEW) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        assert shell(path, 'identity_find; echo "$newest"') == "0\n"
        assert identity.newest(bytes(damaged)) == identity.Copy(0, 1, OLD)
    path.write_bytes(bytes(SIZE))
    assert shell(path, 'identity_find; echo "$newest"') == "\n"


def test_a_header_that_comes_in_pieces_is_whole(tmp_path: Path) -> None:
    """As the shell writes it that has said something on a console before."""
    path, content = tmp_path / "part", tmp_path / "content"
    path.write_bytes(bytes(SIZE))
    content.write_bytes(b"an identity")
    lines = 'while read -r line || [ -n "$line" ]; do echo "$line"; sleep 0.02; done'
    pieces = f'printf() {{ command printf "$@" | {lines}; }}'
    shell(path, f"{pieces}; identity_write {content}")
    found = identity.newest(path.read_bytes())
    assert found is not None and found.content == b"an identity"


def test_the_image_s_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    path, content = tmp_path / "part", tmp_path / "content"
    path.write_bytes(bytes(partition((0, 1, OLD))))
    content.write_bytes(b"x" * (identity.capacity(SIZE) + 1))
    assert shell(path, f"identity_write {content} || echo refused") == "refused\n"
    assert identity.newest(path.read_bytes()) == identity.Copy(0, 1, OLD)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("sequence", [10**18 - 2, 10**18 - 1, 10**18, 2**63 - 1, 2**64 - 1, 10**20 - 1])
def test_no_number_keeps_a_host_from_another_identity(tmp_path: Path, place: int, sequence: int) -> None:
    """Who can write to the disk once must not be believed for ever; both readers count with the same numbers."""
    path, content = tmp_path / "part", tmp_path / "content"
    path.write_bytes(bytes(partition((1 - place, 5, OLD), (place, sequence, b"made up"))))
    found = identity.newest(path.read_bytes())
    made_up, own = identity.Copy(place, sequence, b"made up"), identity.Copy(1 - place, 5, OLD)
    assert found == (made_up if sequence < 10**18 else own)
    assert shell(path, 'identity_find; echo "$newest $newest_sequence"') == f"{found.place} {found.sequence}\n"
    content.write_bytes(NEW)
    for _ in range(3):
        shell(path, f"identity_write {content}")
        after = identity.newest(path.read_bytes())
        assert after is not None and after.content == NEW
        assert shell(path, 'identity_find; echo "$newest"') == f"{after.place}\n"
    assert b"made up" not in path.read_bytes()


def test_the_host_s_program_writes_both_copies_and_leaves_nothing_else(tmp_path: Path) -> None:
    """What stood there before may have been secret: it is overwritten to the last byte, whatever the size."""
    path = tmp_path / "part"
    for size in (SIZE, SIZE + 4096 + 512):
        path.write_bytes(b"\xff" * size)
        for number, content in enumerate((RECORD.pack(OLD, NEW), RECORD.pack(NEW)), start=1):
            RECORD.Partition(path).write(content)
            data = path.read_bytes()
            assert len(data) == size and identity.newest(data) == identity.Copy(1, 2 * number, content)
            assert data.count(content) == 2 and b"\xff" not in data
            say = "identity_find; identity_whole $newest; identity_content $newest"
            assert shell(path, say) == content.decode()
        assert RECORD.Partition(path).kept() == (NEW, b"")
        assert OLD not in data


def test_the_host_s_program_writes_over_the_older_copy_first(tmp_path: Path) -> None:
    """The power may go after each write: the newest whole copy is what was there, or what is new."""
    path = tmp_path / "part"
    before = bytes(partition((0, 4, OLD), (1, 3, b"older")))
    path.write_bytes(before)
    states: list[bytes] = []

    class Watched(RECORD.Partition):  # type: ignore[misc]
        def _put(self, *arguments: object) -> None:
            super()._put(*arguments)
            states.append(path.read_bytes())

    new = RECORD.pack(NEW)
    Watched(path).write(new)
    first, second = (identity.newest(state) for state in states)
    assert (first, second) == (identity.Copy(1, 5, new), identity.Copy(0, 6, new))
    assert states[0][: SIZE // 2] == before[: SIZE // 2]


@pytest.mark.parametrize(
    "content", [b"", b"provision-sealed 1\n", b"provision-sealed 1\n3 1\nabc", b"provision-sealed 1\n-1 2\na", OLD]
)
def test_what_is_no_sealed_record_is_none(content: bytes) -> None:
    assert RECORD.unpack(content) is None


def test_a_record_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(bytes(partition((0, 1, OLD))))
    with pytest.raises(OSError, match="too small"):
        RECORD.Partition(path).write(b"x" * (identity.capacity(SIZE) + 1))
    assert identity.newest(path.read_bytes()) == identity.Copy(0, 1, OLD)
