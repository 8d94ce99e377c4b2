"""The lines of the README, and those for a server without systemd, do what they are there for on a fresh machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from provision import keytab
from provision.secret import Secret
from tests.helpers.cli_runner import cli
from tests.helpers.documents import Document
from tests.helpers.netns import isolated, lan, sh
from tests.helpers.paths import ROOT
from tests.helpers.site_fixture import make_base

README = Document.read("README.md").section("A real site")
FOREGROUND = Document.read("docs/deployment.md").section("Installing the server").blocks("sh")[-1]


def fresh(directory: Path) -> Path:
    """A state directory with the README's settings and base image, as they are after `init` and `image import`."""
    state = directory / "state"
    assert cli(state, "init").code == 0
    [settings] = README.blocks("toml")
    (state / "provision.toml").write_text(settings)
    make_base(state, "hypervisor")
    [inventory] = README.blocks("yaml")
    (directory / "site.yaml").write_text(inventory)
    key = keytab.pack("host/hv1.example.test@EXAMPLE.TEST", Secret(bytes(32)))
    (directory / "hv1.keytab").write_bytes(key.reveal())
    return state


def commands(document: Document, directory: Path) -> list[list[str]]:
    """Its `provision` lines with files below `directory`; without those that take minutes, or an end by Ctrl-C."""
    lines = [words for words in document.shell_lines() if words[0] != "image" and "--watch" not in words]
    files = re.compile(r"^(?:/.*/)?([\w-]+\.(?:yaml|keytab|iso|conf|service))$")
    return [[files.sub(rf"{directory}/\1", word) for word in words] for words in lines]


def test_the_image_that_is_built_is_the_one_that_hosts_boot() -> None:
    """The lines about images, which take minutes, name one directory and the site's base, and build whatever the
    archive has by now."""
    build, load = (words for words in README.shell_lines() if words[0] == "image")
    [inventory] = README.blocks("yaml")
    assert (build[1], load[1]) == ("build", "import")
    assert build[build.index("-o") + 1] == load[load.index("--from") + 1]
    assert load[2] == yaml.safe_load(inventory)["site"]["base"]
    newcomers = [README, *map(Document.read, ("docs/deployment.md", "docs/host-image.md"))]
    builds = [words for document in newcomers for words in document.shell_lines() if words[:2] == ["image", "build"]]
    assert all({"--allow-newer", "--update-lock", "--lock"}.intersection(words) for words in builds), builds


@contextmanager
def bare_machine(script: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the script in `directory`, on a machine where no service ever left anything in /var/lib and /run."""
    script = f"mount -t tmpfs none /var/lib; mount -t tmpfs none /run; {script}"
    argv = ["unshare", "--mount", "sh", "-euc", script]
    with subprocess.Popen(argv, cwd=directory, stderr=subprocess.PIPE, start_new_session=True) as run:
        try:
            yield run
        finally:
            # Also what the shell started.
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def answers_dhcp(script: str, directory: Path) -> None:
    """Fails with what the script says when it ends before there is a DHCP server in this namespace."""
    with bare_machine(script, directory) as server:
        while ":67 " not in sh("ss -Hlun"):
            assert server.poll() is None, server.stderr and server.stderr.read()
            time.sleep(0.05)


@isolated
def test_the_readme_works_as_it_stands(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    with lan("eth1", "192.0.2.1/24", "192.0.2.11/24"):
        for words in commands(README, tmp_path):
            ran = cli(state, *words)
            assert ran.code == 0, (words, ran)
        assert (tmp_path / "hv1.iso").stat().st_size > 0
        # What systemd does with the unit that the last lines enable.
        unit = (tmp_path / "provision-dhcp.service").read_text()
        [start], [own] = (re.findall(rf"^{key}=(.+)$", unit, re.MULTILINE) for key in ("ExecStart", "StateDirectory"))
        answers_dhcp(f"mkdir /var/lib/{own}; exec {start}", tmp_path)
    assert "enable --now provision-dhcp" in README.text


@isolated
def test_dnsmasq_starts_in_the_foreground_without_the_unit(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    assert cli(state, "apply", tmp_path / "site.yaml").code == 0
    with lan("eth1", "192.0.2.1/24", "192.0.2.11/24"):
        for words in commands(Document("", f"```sh\n{FOREGROUND}```\n"), tmp_path):
            assert cli(state, *words).code == 0, words
        answers_dhcp(re.sub("^provision .*$", "", FOREGROUND, flags=re.MULTILINE), tmp_path)


def test_a_rendered_tree_is_exchanged_for_a_newer_one(tmp_path: Path) -> None:
    """The lines for a TFTP server of the site's own, run twice: the link leads to the second tree, and whole ones."""
    state, root, programs = fresh(tmp_path), tmp_path / "tftp", tmp_path / "programs"
    settings = state / "provision.toml"
    here = 'interface = "lo"\naddress = "192.0.2.1"'
    settings.write_text(settings.read_text().replace('interface = "eth1"', here))
    assert cli(state, "apply", tmp_path / "site.yaml").code == 0
    section = Document.read("docs/deployment.md").section("With DHCP and TFTP servers of your own")
    [script] = section.blocks("sh")
    for directory in (root, programs):
        directory.mkdir()
    (programs / "provision").write_text(f'#!/bin/sh\nexec {sys.executable} -m provision --state {state} "$@"\n')
    for time_of_day in ("120000", "120500"):
        (programs / "date").write_text(f"#!/bin/sh\necho 20260101-{time_of_day}\n")
        for program in programs.iterdir():
            program.chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        script = script.replace("/srv/tftp", str(root))
        subprocess.run(["sh", "-euc", script], env=environment, cwd=ROOT, check=True, timeout=60)
        assert (root / "provision").readlink() == root / f"provision-20260101-{time_of_day}"
        assert (root / "provision" / "shimx64.efi").is_file()
    assert len(list(root.iterdir())) == 3


def test_a_site_without_kerberos_leaves_out_what_the_readme_says(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    inventory = yaml.safe_load((tmp_path / "site.yaml").read_text())
    for place, key in ((inventory["site"], "realm"), (inventory["site"], "credentials")):
        del place[key]
    del inventory["hosts"]["hv1"]["credentials"]
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(inventory))
    assert cli(state, "apply", tmp_path / "site.yaml").code == 0
    assert cli(state, "iso", "hv1", "-o", tmp_path / "hv1.iso").code == 0
