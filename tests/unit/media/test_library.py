"""The library: imports that are whole or nothing, and bases that say so when they are damaged."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import gzip
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.media import importing
from provision.media.base import MEDIA, BaseImage, hash_file
from provision.media.importing import ImportProblems, ImportRequest
from provision.media.layout import medium_plan
from provision.media.library import Library
from provision.media.reader import Reader
from tests.fixtures.media import archive, image_archive, kernel, write


@pytest.fixture
def request_(tmp_path: Path) -> ImportRequest:
    initrds = (
        write(tmp_path / "one", image_archive()),
        write(tmp_path / "two", gzip.compress(archive({"a": b"b"}), mtime=0)),
    )
    return ImportRequest("debian-12", write(tmp_path / "k", kernel()), initrds, ("console=ttyS0",), None, 64 * 1024)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "state")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BaseImage]:
    root = tmp_path_factory.mktemp("imported")
    request = ImportRequest("kept", write(root / "k", kernel()), (write(root / "i", image_archive()),), seed_size=65536)
    return root / "state", Library(root / "state").import_base(request)


@pytest.fixture
def copy(imported: tuple[Path, BaseImage], tmp_path: Path) -> tuple[Library, BaseImage]:
    """A library of one base that a test may damage; as restored from a backup."""
    state, base = imported
    subprocess.run(["cp", "-a", "--sparse=always", state, tmp_path / "copy"], check=True)
    library = Library(tmp_path / "copy")
    return library, library.get(base.id)


def left(library_state: Path) -> list[str]:
    return sorted(path.name for path in (library_state / "bases").iterdir() if path.name != ".lock")


@pytest.mark.integration
def test_an_import_gives_a_whole_base(library: Library, request_: ImportRequest, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    base = library.import_base(request_, lambda stage, done: seen.append((stage, done)))
    assert (base.name, base.kernel_version, base.kernel_arguments) == ("debian-12", "6.1.0-test", ("console=ttyS0",))
    assert base == library.get(base.id) == library.find("debian-12") == library.list()[0]
    assert base.signing.startswith("not for Secure Boot: the kernel not signed")
    assert sorted(base.loaders) == ["grubx64.efi", "ldlinux.c32", "lpxelinux.0", "shimx64.efi"]
    assert base.loaders["grubx64.efi"].path.read_bytes().count(b"tftp") > 0
    assert (sorted(base.iso.slots), sorted(base.disk.slots)) == (
        ["grub.cfg", "isolinux.cfg", "seed"],
        ["grub.cfg", "identity"],
    )
    assert base.iso.slots["seed"].size == base.disk.slots["identity"].size - 4096 == 65536
    for initrd, source in zip(base.initrds, request_.initrds, strict=True):
        assert initrd.size % 512 == 0
        assert initrd.path.read_bytes().rstrip(b"\0") == source.read_bytes().rstrip(b"\0")
    base.verify()
    assert left(tmp_path / "state") == [base.id]
    assert [stage for stage, _ in seen][-1] == "done"
    assert [done for _, done in seen] == sorted(done for _, done in seen)
    for path in (base.directory, *base.directory.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.integration
def test_the_same_content_is_the_same_base(library: Library, request_: ImportRequest, tmp_path: Path) -> None:
    base = library.import_base(request_)
    stamp = base.directory.stat().st_ino
    assert library.import_base(request_) == base
    assert base.directory.stat().st_ino == stamp
    with pytest.raises(Conflict, match="this content is already imported as 'debian-12'"):
        library.import_base(dataclasses.replace(request_, name="other"))
    other = dataclasses.replace(request_, kernel_arguments=("quiet",))
    with pytest.raises(Conflict, match="another base image has this name"):
        library.import_base(other)
    assert left(tmp_path / "state") == [base.id]
    second = library.import_base(dataclasses.replace(other, name="other"))
    assert second.id != base.id
    assert [b.name for b in library.list()] == ["debian-12", "other"]
    # Elsewhere, later, the media are the same to the byte.
    twin = Library(tmp_path / "elsewhere").import_base(request_)
    assert (twin.id, twin.iso.sha256, twin.disk.sha256, twin.refusal.sha256) == (
        base.id, base.iso.sha256, base.disk.sha256, base.refusal.sha256,
    )  # fmt: skip


def test_the_size_of_a_seed_has_one_limit(library: Library, request_: ImportRequest) -> None:
    with pytest.raises(
        ImportProblems, match=r"is not a valid size for the seed, which .*; give --seed-size, in MiB, from 1 to 256"
    ):
        library.import_base(dataclasses.replace(request_, seed_size=importing.SEED_LIMIT + 4096))


def test_all_problems_come_at_once(library: Library, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad", b"#!/bin/sh\n")
    request = ImportRequest("Bad Name", tmp_path / "absent", (bad, tmp_path), ("a='b'",), tmp_path / "none", 1000)
    with pytest.raises(ImportProblems) as caught:
        library.import_base(request)
    texts = "\n".join(str(problem) for problem in caught.value.problems)
    for part in (
        "absent: does not exist",
        "bad: its archive at byte 0 has no known format",
        f"{tmp_path}: is not a file",
        "Bad Name: is not a valid name",
        "a='b': has a single quote, before which GRUB puts a backslash",
        "1000: is not a valid size for the seed",
        "gcdx64.efi.signed: is missing; add it",
    ):
        assert part in texts
    assert isinstance(caught.value, Invalid)
    assert str(caught.value).startswith("base image: 15 problems: ")
    assert left(tmp_path / "state") == []


@pytest.mark.parametrize(
    ("initrd", "fact"),
    [
        (archive({"init": b""}), "would ignore its seed"),
        (image_archive(b"2\n"), "asks for seed contract '2'"),
        (image_archive(b"1"), "etc/provision-seed-contract holds '1' without the newline; write it with 'echo 1'"),
        (image_archive(b"1\r\n"), "etc/provision-seed-contract holds '1', but ends in a carriage return"),
        (image_archive(b" 1\n\n"), "etc/provision-seed-contract holds '1' and white space beside it"),
    ],
)
def test_an_image_of_no_or_another_contract_is_refused(
    library: Library, request_: ImportRequest, tmp_path: Path, initrd: bytes, fact: str
) -> None:
    path = write(tmp_path / "initrd", initrd)
    with pytest.raises(ImportProblems, match=f"{path}: .*{fact}"):
        library.import_base(dataclasses.replace(request_, initrds=(path,)))


def test_a_command_line_too_long_is_refused(library: Library, request_: ImportRequest) -> None:
    arguments = tuple(f"argument{i}={'x' * 200}" for i in range(10))
    with pytest.raises(ImportProblems, match="takes a command line of 2047 bytes, and 21"):
        library.import_base(dataclasses.replace(request_, kernel_arguments=arguments))


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("initrd=/x",), "the kernel argument initrd= belongs to the boot loader; remove it from --cmdline"),
        (("boot_image=/x",), "the kernel argument boot_image= belongs to the boot loader"),
        (("ip=dhcp", "ip=off"), "the kernel argument ip= is given 2 times, in --cmdline; keep one of them"),
        (tuple(f"a{i}={'x' * 196}" for i in range(8)), "have 1599 bytes, and 1535 fit; shorten --cmdline"),
    ],
)
def test_what_no_host_could_boot_with_is_refused(
    library: Library, request_: ImportRequest, arguments: tuple[str, ...], fact: str
) -> None:
    with pytest.raises(ImportProblems, match=f"debian-12: .*{fact}"):
        library.import_base(dataclasses.replace(request_, kernel_arguments=arguments))


def test_an_initrd_cut_short_is_not_hidden_by_padding(
    library: Library, request_: ImportRequest, tmp_path: Path
) -> None:
    path = write(tmp_path / "initrd", image_archive()[:-4])
    with pytest.raises(ImportProblems, match="ends before its trailer"):
        library.import_base(dataclasses.replace(request_, initrds=(path,)))


@pytest.mark.integration
@pytest.mark.parametrize("stage", ["copying", "building base.disk", "hashing"])
def test_an_interrupted_import_leaves_nothing(
    library: Library, request_: ImportRequest, tmp_path: Path, stage: str
) -> None:
    def interrupt(now: str, done: float) -> None:
        if now == stage:
            assert len(left(tmp_path / "state")) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.import_base(request_, interrupt)
    assert left(tmp_path / "state") == []
    assert library.list() == []


_CHILD = """
import sys
from pathlib import Path
from provision.media.importing import ImportRequest
from provision.media.library import Library
def progress(stage, done):
    if stage == "hashing":
        print("ready", flush=True)
        sys.stdin.read()
Library(Path(sys.argv[1])).import_base(
    ImportRequest("killed", Path(sys.argv[2]), (Path(sys.argv[3]),), seed_size=65536), progress)
"""


@pytest.mark.integration
def test_a_killed_import_is_swept_and_a_running_one_is_not(
    library: Library, request_: ImportRequest, tmp_path: Path
) -> None:
    paths = (tmp_path / "state", request_.kernel, request_.initrds[0])
    command = [sys.executable, "-c", _CHILD, *map(str, paths)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        library.sweep()
        assert len(left(tmp_path / "state")) == 1
        with pytest.raises(Conflict, match="another import is running"):
            library.import_base(request_)
        child.send_signal(signal.SIGKILL)
        child.wait()
    (leftover,) = left(tmp_path / "state")
    assert leftover.startswith(".import-")
    assert library.list() == []
    library.sweep()
    assert left(tmp_path / "state") == []


def test_sweeping_nothing_is_fine(library: Library) -> None:
    library.sweep()
    assert library.list() == []


@pytest.mark.integration
def test_a_full_disk_is_one_line_and_leaves_nothing(
    library: Library, request_: ImportRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(importing, "hash_file", full)
    with pytest.raises(Unavailable, match=r"the import failed \(No space left on device\); make room"):
        library.import_base(request_)
    assert left(tmp_path / "state") == []


def test_a_state_directory_that_is_a_file_is_one_line(request_: ImportRequest, tmp_path: Path) -> None:
    write(tmp_path / "state", b"")
    with pytest.raises(Unavailable, match="the import failed"):
        Library(tmp_path / "state").import_base(request_)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["kernel", "initrd0.img", "loaders/shimx64.efi", *MEDIA.values()])
def test_a_damaged_base_says_so_in_one_line(copy: tuple[Library, BaseImage], name: str) -> None:
    library, base = copy
    path = base.directory / name
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"\xee")
    line = f"base image kept: {name}: was changed or copied after its import; .*'provision image verify kept'"
    with pytest.raises(Unavailable, match=line):
        library.get(base.id)
    for _ in range(2):
        with pytest.raises(Unavailable, match=f"{name}: is damaged: its SHA-256 does not match; import it again"):
            library.verify(base.id)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.truncate(path, 10)
    with pytest.raises(Unavailable, match=f"{name}: has 10 bytes instead of {status.st_size}"):
        library.find("kept")
    path.unlink()
    with pytest.raises(Unavailable, match=rf"{name}: cannot be read \(No such file"):
        library.get(base.id)


@pytest.mark.integration
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"id": 1, "media": null}', None])
def test_a_damaged_record_says_so_in_one_line(copy: tuple[Library, BaseImage], content: bytes | None) -> None:
    library, base = copy
    record = base.directory / "base.json"
    record.unlink()
    if content is not None:
        record.write_bytes(content)
    line = r"base.json: (is damaged|cannot be read .*); import the base image again"
    with pytest.raises(Unavailable, match=line):
        library.get(base.id)
    with pytest.raises(Unavailable, match=line):
        library.find("kept")
    assert library.list() == []


@pytest.mark.integration
def test_importing_again_repairs(library: Library, request_: ImportRequest, tmp_path: Path) -> None:
    base = library.import_base(request_)
    os.truncate(base.iso.path, 10)
    shutil.rmtree(base.directory / "loaders")
    assert library.import_base(request_) == base
    library.get(base.id).verify()
    assert left(tmp_path / "state") == [base.id]


@pytest.mark.integration
def test_a_removed_base_is_read_on_and_not_found(copy: tuple[Library, BaseImage], tmp_path: Path) -> None:
    library, base = copy
    contents = {"seed": b"seed", "grub.cfg": b"boot\n", "isolinux.cfg": b"x\n"}
    with Reader(medium_plan(base.iso, contents, "r")) as reader:
        digest = reader.digest()
        library.remove(base.id)
        assert reader.digest() == digest
    for look in (library.get, library.remove):
        with pytest.raises(NotFound, match="no base image has this id"):
            look(base.id)
    with pytest.raises(NotFound, match="provision image import kept"):
        library.find("kept")
    assert left(tmp_path / "copy") == []


@pytest.mark.parametrize("id_", ["", ".", "..", "../bases", ".lock", "A" * 64, "a" * 64])
def test_an_id_is_no_path(library: Library, tmp_path: Path, id_: str) -> None:
    (tmp_path / "state" / "bases").mkdir(parents=True)
    with pytest.raises(NotFound):
        library.get(id_)


@pytest.mark.integration
def test_a_restored_state_directory_works_elsewhere(
    copy: tuple[Library, BaseImage], imported: tuple[Path, BaseImage]
) -> None:
    library, base = copy
    assert base.directory != imported[1].directory
    library.get(base.id).verify()
    assert hash_file(base.iso.path) == imported[1].iso.sha256


@pytest.mark.integration
def test_a_base_that_was_copied_without_its_times_is_taken_once_it_is_verified(
    copy: tuple[Library, BaseImage], tmp_path: Path
) -> None:
    _, base = copy
    subprocess.run(["cp", "-r", tmp_path / "copy", tmp_path / "again"], check=True)
    again = Library(tmp_path / "again")
    with pytest.raises(Unavailable, match="was changed or copied after its import"):
        again.get(base.id)
    assert again.verify(base.id).id == base.id
    assert again.find("kept") == again.get(base.id)


@pytest.mark.integration
def test_a_time_that_cannot_be_set_is_one_line(
    copy: tuple[Library, BaseImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, base = copy
    os.utime(base.kernel.path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(Unavailable, match=r"kept: kernel: is whole, but .* \(Operation not permitted\); check owner"):
        library.verify(base.id)


def test_the_lock_falls_with_its_holder(library: Library, tmp_path: Path, request_: ImportRequest) -> None:
    (tmp_path / "state" / "bases").mkdir(parents=True)
    fd = os.open(tmp_path / "state" / "bases" / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    stale = tmp_path / "state" / "bases" / ".import-1-00000000"
    stale.mkdir()
    library.sweep()
    assert stale.exists()
    os.close(fd)
    library.sweep()
    assert not stale.exists()
