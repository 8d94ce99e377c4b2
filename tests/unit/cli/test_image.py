"""`provision image import`: what it takes, and what is not an image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provision.cli.image import _parts
from provision.errors import Exit
from provision.media import importing
from tests.fixtures import media
from tests.helpers.cli_runner import cli, document, good


def test_a_bad_kernel_is_a_problem_of_the_image(state: Path, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"no kernel")
    files = ("--kernel", tmp_path / "k", "--initrd", tmp_path / "k")
    told = document(cli(state, "image", "import", "new", *files, "--json"), Exit.INVALID)
    assert told["subject"] == "base image 'new'"
    assert told["remedy"]


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
    groups = [{"name": "system", "packed": 5 << 20}, {"name": "kernel", "packed": 9}]
    (built / "report.json").write_text(json.dumps({"groups": groups}))
    ran = cli(state, "--json", "image", "import", "x", "--from", built)
    assert json.loads(ran.out)["kernel_arguments"] == ["console=ttyS1", "quiet"], ran
    assert json.loads(ran.out)["parts"] == {"system": 5 << 20, "kernel": 9}
    ran = cli(state, "image", "import", "y", "--from", built, "--cmdline", "quiet")
    assert (ran.code, "--from: contradicts --kernel" in ran.err) == (Exit.INVALID, True)
    ran = cli(state, "image", "import", "y", "--kernel", "/etc/hostname")
    assert (ran.code, "give --from, or --kernel and --initrd" in ran.err) == (Exit.INVALID, True)


@pytest.mark.parametrize(
    "report",
    ["", "[]", "{}", '{"groups": 1}', '{"groups": [{"name": "a"}]}', '{"groups": [{"name": "\\u001b", "packed": 1}]}'],
)
def test_a_report_that_says_nothing_is_no_obstacle(tmp_path: Path, report: str) -> None:
    assert _parts(tmp_path) == {}
    (tmp_path / "report.json").write_text(report)
    assert _parts(tmp_path) == {}


def test_the_largest_seed_that_the_help_names_is_the_largest(state: Path) -> None:
    most = importing.SEED_LIMIT >> 20
    ran = cli(state, "image", "import", "x", "--kernel", "k", "--initrd", "i", "--seed-size", str(most + 1))
    assert ran.code == Exit.USAGE
    ran = cli(state, "image", "import", "x", "--kernel", "k", "--initrd", "i", "--seed-size", str(most))
    assert ran.code == Exit.UNAVAILABLE


def test_lists_say_what_is_revoked(state: Path) -> None:
    good(cli(state, "sb", "init"))
    good(cli(state, "sb", "sign", "base"))
    for revoked, word in ((False, "no"), (True, "yes")):
        if revoked:
            good(cli(state, "tpm", "revoke", "base"))
        for command in (("image", "list"), ("sb", "list")):
            head, line = good(cli(state, *command)).out.splitlines()
            assert line[head.index("REVOKED") :].split()[0] == word
            assert [row["revoked"] for row in cli(state, *command, "--json").json] == [revoked]
