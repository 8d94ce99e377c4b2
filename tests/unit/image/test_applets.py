"""What BusyBox provides in an image: only what it has, and a wget that says what it cannot do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision import assets
from provision.image import applets
from provision.image.tree import Tree
from tests.helpers.image_samples import file, loaded

WGET = assets.directory("images") / "host/root/usr/bin/wget"
URL = "http://10.0.0.1/T"


def test_applets_that_busybox_does_not_have_are_named_with_their_lines() -> None:
    rules = loaded("applets:\n  - cat\n  - nohup\ninitramfs:\n  applets: [sh, at]\n")
    has = Tree([file("usr/bin/busybox", "\x7fELF\0[\0cat\0sh\0nohups\0")])
    found = list(applets.problems(rules, has))
    assert [(p.line, p.path, p.fact) for p in found] == [
        (5, "applets.1", "this BusyBox has no nohup"),
        (7, "initramfs.applets.1", "this BusyBox has no at"),
    ]
    assert not list(applets.problems(rules, Tree([])))


def wget(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The image's wget, with a BusyBox that prints its arguments."""
    stand_in = tmp_path / "busybox"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    script = WGET.read_text()
    assert "exec /usr/bin/busybox " in script
    (tmp_path / "wget").write_text(script.replace("/usr/bin/busybox", str(stand_in)))
    return subprocess.run(["dash", tmp_path / "wget", *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [("-T", "5"), ("-T5",), ("-q", "-T", "5"), ("-qT", "5"), ("-cqST5",)], ids=" ".join)
def test_wget_says_that_it_has_no_timeout(tmp_path: Path, words: tuple[str, ...]) -> None:
    for line in ((*words, URL), (URL, *words)):
        done = wget(tmp_path, *line)
        assert (done.returncode, done.stdout) == (1, "") and "use timeout SECONDS wget" in done.stderr


@pytest.mark.parametrize(
    "words",
    [("-q", "-O", "-"), ("-O", "a b*", "--header", "X-Test: T"), ("-OT", "-UT", "-qPT"), ("--", "-T", "5"), ("",)],
    ids=repr,
)
def test_wget_leaves_all_else_to_busybox(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = wget(tmp_path, *words, URL)
    assert (done.returncode, done.stdout.split("\n")[:-1], done.stderr) == (0, ["wget", *words, URL], "")
