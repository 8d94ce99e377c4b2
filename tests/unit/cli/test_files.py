"""Files that the command line reads: what is too much, what never ends, and every problem of a directory at once."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from provision.credential import MAX_FILE
from provision.errors import Exit
from provision.media import importing
from tests.fixtures import media
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import closed_site


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return closed_site(tmp_path)


def test_a_secret_is_a_file_that_ends(state: Path, tmp_path: Path) -> None:
    wanted = ("credential", "set", "node1", "token", "--file")
    ran = cli(state, *wanted, "/dev/zero")
    assert (ran.code, "/dev/zero: is not a file; name the file" in ran.err) == (Exit.INVALID, True)
    (tmp_path / "large").write_bytes(bytes(MAX_FILE + 1))
    assert f"large: has more than {MAX_FILE} bytes" in cli(state, *wanted, "large").err
    assert f"-: has more than {MAX_FILE} bytes" in cli(state, *wanted, "-", stdin=bytes(MAX_FILE + 1)).err
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"from-a-pipe",))
    writer.start()
    assert "version 2" in cli(state, *wanted, "pipe").out
    writer.join()


def test_a_part_of_an_image_is_a_file(state: Path) -> None:
    for kernel, initrd in (("/dev/zero", "/etc/hostname"), ("/etc/hostname", "/dev/zero")):
        ran = cli(state, "image", "import", "x", "--kernel", kernel, "--initrd", initrd)
        assert (ran.code, ran.err) == (
            Exit.INVALID,
            "error: /dev/zero: is not a regular file; give the file itself\n",
        )


def test_a_built_image_is_imported_from_its_directory(state: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    (built / "image.json").write_text('{"kernel_arguments": ["console=ttyS1", "quiet"]}')
    ran = cli(state, "image", "import", "x", "--from", built)
    assert (ran.code, "vmlinuz: is missing" in ran.err) == (Exit.NOT_FOUND, True)
    (built / "vmlinuz").write_bytes(media.kernel())
    (built / "initrd").write_bytes(media.image_archive())
    ran = cli(state, "--json", "image", "import", "x", "--from", built)
    assert json.loads(ran.out)["kernel_arguments"] == ["console=ttyS1", "quiet"], ran
    ran = cli(state, "image", "import", "y", "--from", built, "--cmdline", "quiet")
    assert (ran.code, "--from: stands beside --kernel" in ran.err) == (Exit.INVALID, True)
    ran = cli(state, "image", "import", "y", "--kernel", "/etc/hostname")
    assert (ran.code, "give --from, or --kernel and --initrd" in ran.err) == (Exit.INVALID, True)


def test_the_largest_seed_that_the_help_names_is_the_largest(state: Path) -> None:
    most = importing.SEED_LIMIT >> 20
    ran = cli(state, "image", "import", "x", "--kernel", "k", "--initrd", "i", "--seed-size", str(most + 1))
    assert ran.code == Exit.USAGE
    ran = cli(state, "image", "import", "x", "--kernel", "k", "--initrd", "i", "--seed-size", str(most))
    assert ran.code == Exit.UNAVAILABLE


def test_a_load_tells_every_problem_at_once_and_seals_nothing(state: Path, tmp_path: Path) -> None:
    for name, content in {
        "node1/token": b"two\nlines",
        "node2/token": b"good",
        "node3/token": b"x",
        "x/y": b"z",
    }.items():
        (tmp_path / "load" / name).parent.mkdir(parents=True)
        (tmp_path / "load" / name).write_bytes(content)
    ran = cli(state, "credential", "load", "load")
    assert ran.code == Exit.INVALID
    assert [line.split("; ")[0] for line in ran.err.splitlines()] == [
        "error: load/node1/token: the token has more than one line, or a zero byte",
        "error: load/node3/token: node3 does not name this credential",
        "error: load/x: no host of this name is in the inventory",
        "3 problems",
    ]
    assert {row["version"] for row in cli(state, "credential", "list", "--json").json} == {1}


def test_a_path_that_is_too_long_says_what_to_do(state: Path) -> None:
    ran = cli(state, "iso", "node1", "-o", "x" * 300)
    assert ran.err.endswith("x: cannot be written (File name too long); give a shorter path\n")
