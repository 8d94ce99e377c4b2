"""What the host's program puts at its place, and what it takes for damage before it has put anything anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import cpio, seed
from provision.seed import File
from tests.helpers.host_programs import load

PLACING = load("placing")
TREE = {"/etc/krb5.keytab": File(b"canary-1", "0600"), "/etc/pki/key.pem": File(b"canary-2" * 99, "0640", "0:107")}
ARCHIVE = seed.archive("node1", "a" * 64, TREE)


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    """As the program runs."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, tuple[str, int, int]]:
    found = ((path, path.lstat()) for path in root.rglob("*"))
    return {str(p.relative_to(root)): (f"{stat.S_IMODE(s.st_mode):04o}", s.st_uid, s.st_gid) for p, s in found}


def test_files_stand_where_they_belong_with_mode_and_owner(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc").chmod(0o755)
    (tmp_path / "etc/krb5.keytab").write_bytes(b"an older one")
    (tmp_path / "etc/.provision-new").write_bytes(b"of one that was interrupted")
    PLACING.put(PLACING.files(ARCHIVE), str(tmp_path))
    assert modes(tmp_path) == {
        "etc": ("0755", 0, 0),
        "etc/krb5.keytab": ("0600", 0, 0),
        "etc/pki": ("0755", 0, 0),
        "etc/pki/key.pem": ("0640", 0, 107),
    }
    assert (tmp_path / "etc/krb5.keytab").read_bytes() == b"canary-1"
    assert PLACING.manifest(ARCHIVE).startswith(b'{"format": 1, "host": "node1"')


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "etc/pki").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "etc/krb5.keytab").symlink_to(tmp_path / "elsewhere" / "stolen")
    with pytest.raises(OSError, match="is not a directory"):
        PLACING.put(PLACING.files(ARCHIVE), str(tmp_path))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "etc/krb5.keytab").is_symlink(), "replaced, not followed"


def test_every_cut_is_damage() -> None:
    end = ARCHIVE.rindex(b"TRAILER!!!")
    for size in range(0, end, 41):
        with pytest.raises((PLACING.Damaged, ValueError)):
            list(PLACING.files(ARCHIVE[:size]))


@pytest.mark.parametrize("path", ["/root/x", "/etc/.hidden", "/etc", "/etc/a b"])
def test_a_path_outside_of_etc_is_damage(path: str) -> None:
    with pytest.raises(PLACING.Damaged, match="not what its manifest says"):
        list(PLACING.files(seed.archive("node1", "a" * 64, {path: File(b"x")})))


def test_a_file_that_is_not_listed_or_another_is_damage() -> None:
    changed = ARCHIVE.replace(b"canary-1", b"canary-9")
    with pytest.raises(PLACING.Damaged, match="keytab is not what"):
        list(PLACING.files(changed))
    more = cpio.pack(cpio.tree([cpio.directory("provision-seed", 0o700), cpio.file("provision-seed/root/etc/x", b"x")]))
    with pytest.raises(PLACING.Damaged, match="has no manifest"):
        list(PLACING.files(more))
    joined = cpio.pack(
        [
            *cpio.tree([cpio.file("provision-seed/root/etc/x", b"x")]),
            cpio.file("provision-seed/manifest.json", PLACING.manifest(ARCHIVE)),
        ]
    )
    with pytest.raises(PLACING.Damaged, match="other files than its manifest"):
        list(PLACING.files(joined))
