"""Completion: what is offered after which words, that nothing odd is, and that the three shells take it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from provision.cli import completion
from tests.helpers.cli_runner import cli
from tests.integration.attacks.fake_service import fake, value

ROW: dict[str, object] = {
    "macs": [],
    "install": "it",
    "addressing": None,
    "storage": "none",
    "netboot": "never",
    "labels": {},
}
HOSTS = [{"name": f"node{n}", **ROW} for n in (1, 2)]
ODD = ["$(touch owned)", "`touch owned`", "a;touch owned", "a b", "-rf", "a\nb", "*", "~", "a\x1b[2J", "'", "../x"]


def offered(state: Path, *words: str) -> list[str]:
    ran = cli("/nonexistent", "completion", "words", "--", "--state", str(state), *words)
    assert (ran.code, ran.err) == (0, "")
    return ran.out.splitlines()


def served(state: Path) -> Path:
    state.mkdir()
    (state / "provision.toml").write_text("")
    return state


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("exp",), ["explain"]),
        (("image", "min"), ["minimal-set"]),
        (("iso", "--s"), ["--selector"]),
        (("iso", "--selector", ""), []),
        (("--conf",), ["--config"]),
        (("nonsense", ""), []),
        (("host", "nonsense", ""), []),
        (("completion", "z"), ["zsh"]),
        (("explain", "n"), []),
        (("explain", "--h"), ["--help"]),
        (("--serv",), ["--server"]),
        (("--server", "https", ":", "//a", ":", "8443", "exp"), ["explain"]),
        (("--server", "https", ":"), []),
        (("host", "list", "--an"), ["--ansible"]),
    ],
    ids=str,
)
def test_commands_and_options_need_no_service(tmp_path: Path, words: tuple[str, ...], found: list[str]) -> None:
    assert offered(tmp_path, *words) == found


def test_every_place_of_a_host_gets_its_hosts(tmp_path: Path) -> None:
    state = served(tmp_path / "state")
    hosts = ["node1", "node2"]
    with fake(state / "operator.sock", value(HOSTS)):
        for words in (("explain",), ("host", "show"), ("iso", "-o", "x.iso"), ("audit", "--host"), ("status",)):
            assert offered(state, *words, "n") == hosts, words
        for words in (("explain", "node1"), ("image", "verify"), ("audit",), ("--config",), ("iso", "-o")):
            assert offered(state, *words, "n") == [], words
        ran = cli("/nonexistent", "completion", "words", "--", "--state", "=", str(state), "explain", "node2")
        assert ran.out == "node2\n", "as bash breaks --state=DIR"
        assert cli("/", "completion", "words", "--", f"--state={state}", "explain", "").out.split()[-2:] == hosts


@pytest.mark.parametrize("name", ODD)
def test_no_name_is_anything_but_a_name(tmp_path: Path, name: str) -> None:
    state = served(tmp_path / "state")
    with fake(state / "operator.sock", value([{"name": name, **ROW}])):
        assert [word for word in offered(state, "explain", "") if word not in ("--help", "--host")] == []


def test_a_service_that_hangs_is_left(tmp_path: Path) -> None:
    state = served(tmp_path / "state")
    argv = [sys.executable, "-m", "provision", "completion", "words", "--", "--state", str(state), "explain", ""]
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(state / "operator.sock"))
        silent.listen()
        ran = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def completed(shell: Sequence[str], script: str, directory: Path) -> list[str]:
    """What a shell runs with `provision` as it is installed: its lines of output."""
    program = directory / "provision"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m provision "$@"\n')
    program.chmod(0o755)
    path = f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": path, "HOME": str(directory), "TERM": "dumb", "LANG": "C.UTF-8"}
    ran = subprocess.run([*shell, script], env=environment, cwd=directory, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout.splitlines()


BASH = """
{script}
complete -p provision >/dev/null
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_provision
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
compdef() {{ :; }}
_files() {{ print files; }}
compadd() {{ print -l -- "${{@[2,-1]}}"; }}
{script}
words=({words}) CURRENT=$#words
_provision
"""
FISH = """
{script}
complete -C '{line}'
"""


@pytest.mark.integration
def test_the_shells_take_it(tmp_path: Path) -> None:
    state = served(tmp_path / "state")
    typed = f"provision --state {state} explain n"
    with fake(state / "operator.sock", value(HOSTS)):
        bash = completed(["bash", "-euc"], BASH.format(script=completion.BASH, words=typed), tmp_path)
        zsh = completed(["zsh", "-fc"], ZSH.format(script=completion.ZSH, words=typed), tmp_path)
        fish = completed(["fish", "-Nc"], FISH.format(script=completion.FISH, line=typed), tmp_path)
    assert bash == zsh == ["node1", "node2"]
    assert [line.split("\t")[0] for line in fish] == bash


@pytest.mark.integration
def test_what_is_typed_is_not_executed(tmp_path: Path) -> None:
    words = "provision '$(touch owned)' '`touch owned`' '; touch owned' ''"
    for shell, frame, script in ((["bash", "-uc"], BASH, completion.BASH), (["zsh", "-fc"], ZSH, completion.ZSH)):
        completed(shell, frame.format(script=script, words=words), tmp_path)
    completed(["fish", "-Nc"], FISH.format(script=completion.FISH, line="provision $(touch owned) "), tmp_path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_as_it_is(shell: str) -> None:
    assert cli("/nonexistent", "completion", shell).out == getattr(completion, shell.upper())
