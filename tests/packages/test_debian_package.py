"""The Debian package: lintian takes it, and it installs, stays off, serves, upgrades and goes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.debian_root import DebianRoot, bootstrap, build
from tests.helpers.sandbox import directives

pytestmark = pytest.mark.packages

STATE = "/var/lib/provision"


@dataclass(frozen=True)
class Machine:
    """A root in which the package is installed, and the file of it."""

    root: DebianRoot
    package: Path

    def path(self, name: str) -> Path:
        return self.root.path / name.lstrip("/")

    def unit(self) -> Path:
        [unit] = [p for p in self.root.path.glob("*/lib/systemd/system/provision.service") if not p.is_symlink()] or [
            self.path("/lib/systemd/system/provision.service")
        ]
        return unit

    def as_user(self, *command: str) -> list[str]:
        """The command as the unit's user, without any capability."""
        user = directives(self.unit())["User"][0]
        return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--bounding-set=-all", "--", *command]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package; making it fails when lintian has an error or a warning."""
    output = tmp_path_factory.mktemp("built")
    build("wheel", output)
    build("deb", output)
    [package] = output.glob("provision_*_amd64.deb")
    return package


@pytest.fixture(scope="module")
def machine(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    directory = tmp_path_factory.mktemp("machine")
    root = DebianRoot.unpack(bootstrap(directory / "base.tar"), directory / "root")
    shutil.copyfile(built, root.path / "root" / built.name)
    root.run("apt-get", "update", "-qq")
    root.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", f"/root/{built.name}")
    return Machine(root, Path("/root", built.name))


def test_lintian_would_see_a_mistake(built: Path, tmp_path: Path) -> None:
    """Without the overrides, it objects to what they excuse: each is there for something."""
    said = subprocess.run(
        ["lintian", "--allow-root", "--no-override", "--fail-on", "error,warning", str(built)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert said.returncode != 0
    excused = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(built)], capture_output=True, check=True).stdout
    member = "./usr/share/lintian/overrides/provision"
    text = subprocess.run(["tar", "-xO", member], input=excused, capture_output=True, check=True).stdout.decode()
    tags = set(re.findall(r"^provision: ([a-z-]+)", text, re.MULTILINE))
    assert tags == set(re.findall(r"^[EW]: provision: ([a-z-]+)", said.stdout, re.MULTILINE))


def test_two_builds_are_the_same(built: Path, tmp_path: Path) -> None:
    build("wheel", tmp_path)
    build("deb", tmp_path)
    assert (tmp_path / built.name).read_bytes() == built.read_bytes()


def test_it_is_off(machine: Machine) -> None:
    """No unit is enabled, no process runs, and there is a directory for a state, with none in it."""
    links = [p.name for p in machine.path("/etc/systemd").rglob("*") if "provision" in p.name]
    assert links == []
    for unit in ("provision.service", "provision-image.timer"):
        argv = ["systemctl", f"--root={machine.root.path}", "is-enabled", unit]
        assert subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout == "disabled\n"
    assert machine.root.run("stat", "-c", "%U:%G %a", STATE) == "provision:provision 700\n"
    assert list(machine.path(STATE).iterdir()) == []


def test_its_programs_are_there(machine: Machine) -> None:
    """Each unit names a program that exists, the page can be read, and the shells have their scripts."""
    for name in ("provision.service", "provision-image.service"):
        for line in directives(machine.unit().with_name(name))["ExecStart"]:
            assert machine.path(line.lstrip("+").split()[0]).is_file()
    assert "First steps" in machine.root.run("provision", "--help")
    for name in (
        "/usr/share/man/man1/provision.1.gz",
        "/usr/share/bash-completion/completions/provision",
        "/usr/share/zsh/vendor-completions/_provision",
        "/usr/share/fish/vendor_completions.d/provision.fish",
    ):
        assert machine.path(name).stat().st_size > 100, name


def test_it_serves_and_what_was_made_outlives_a_purge(machine: Machine, tmp_path: Path) -> None:
    """The line of the unit, as its user, answers; an upgrade and a purge leave the state as it is, and say so."""
    root = machine.root
    root.run(*machine.as_user("provision", "init"))
    key = machine.path(f"{STATE}/key").read_bytes()
    [line] = directives(machine.unit())["ExecStart"]
    log = tmp_path / "log"
    service = root.start(machine.as_user(*line.split()), log)
    try:
        deadline = time.monotonic() + 120
        while not machine.path(f"{STATE}/operator.sock").exists():
            assert service.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        example = "import provision.assets as a; print(a.directory('examples') / 'minimal.yaml')"
        site = root.run("/usr/lib/provision/bin/python3", "-I", "-c", example).strip()
        root.run("provision", "apply", site)
        assert [host["host"] for host in json.loads(root.run("provision", "--json", "status"))["hosts"]] == ["node1"]
    finally:
        service.kill()
        service.wait(30)
    assert "ERROR" not in log.read_text(), log.read_text()
    root.run("dpkg", "--install", str(machine.package))
    said = root.run("dpkg", "--purge", "provision")
    assert f"{STATE} is not empty and stays" in said
    assert machine.path(f"{STATE}/key").read_bytes() == key
    assert machine.path(f"{STATE}/provision.db").is_file()
    gone = ["/usr/lib/provision", "/etc/provision", "/usr/bin/provision", "/var/lib/provision-image"]
    assert [name for name in gone if machine.path(name).exists()] == []
