"""The container file: an image of it, built on this machine's release, starts, answers, and keeps its state."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.debian_root import bootstrap, build
from tests.helpers.netns import isolated, lan
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.packages

IMAGE, BASE = "localhost/provision", "localhost/base"
MINIMAL = "/opt/provision/lib/python*/site-packages/provision/examples/minimal.yaml"
CAPABILITIES = "NET_BIND_SERVICE,NET_ADMIN,NET_RAW"
LISTEN = """\
[[listen]]
network = "mgmt"
interface = "mgmt0"
"""
# A process in a container may not raise a limit. runc starts containers under every version of control groups.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


@dataclass(frozen=True)
class Podman:
    """podman with images and containers of its own, below `directory`."""

    directory: Path

    def argv(self, *arguments: str) -> list[str]:
        own = [f"--root={self.directory}/root", f"--runroot={self.directory}/run", f"--tmpdir={self.directory}/tmp"]
        return ["podman", *own, "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc", *arguments]

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(self.argv(*arguments), input=stdin, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    def run(self, volume: str, script: str, options: Sequence[str] = (), stdin: str = "") -> str:
        """What a script prints in a container of its own, which ends with it."""
        own = ("--rm", "--interactive", "--network=none", f"--volume={volume}:/var/lib/provision", *LIMITS)
        return self("run", *own, *options, IMAGE, "sh", "-ec", script, stdin=stdin)

    def start(self, name: str, volume: str, *options: str) -> None:
        """The service, as the image starts it, until its log says that it serves."""
        volumes = f"--volume={volume}:/var/lib/provision"
        self("run", "--detach", f"--name={name}", volumes, *LIMITS, *options, IMAGE)
        self.wait(name)

    def wait(self, name: str) -> None:
        deadline = time.monotonic() + 120
        while "serving the operator's socket" not in (log := self.log(name)):
            assert self("inspect", "--format={{.State.Running}}", name) == "true\n", log
            assert time.monotonic() < deadline, log
            time.sleep(0.2)

    def log(self, name: str) -> str:
        argv = self.argv("logs", name)
        both = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        return both.stdout


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """With the image built, of wheels that this machine's pip fetched by the same lock."""
    directory = tmp_path_factory.mktemp("container")
    context, wheels, settings = directory / "dist", directory / "wheels", directory / "pip.conf"
    context.mkdir()
    build("wheel", context)
    shutil.copyfile(ROOT / "requirements-server.lock", context / "requirements-server.lock")
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    subprocess.run([*pip, "-r", context / "requirements-server.lock", "-d", wheels], check=True, timeout=1200)
    settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    # podman takes short paths only.
    short = tempfile.mkdtemp(prefix="podman-", dir="/var/tmp")
    podman = Podman(Path(short))
    try:
        podman("import", str(bootstrap(directory / "base.tar")), BASE)
        mounted = (f"--volume={wheels}:/wheels:ro", f"--volume={settings}:/etc/pip.conf:ro")
        built = ("--isolation=chroot", "--network=host", "--layers=false", f"--build-arg=BASE={BASE}", *mounted)
        podman("build", *built, "--tag", IMAGE, "--file", str(ROOT / "packaging" / "Containerfile"), str(context))
        yield podman
    finally:
        podman("rm", "--all", "--force", "--time=5")
        podman("rmi", "--all", "--force")
        shutil.rmtree(short)


def test_it_starts_and_answers_and_keeps_its_state(podman: Podman) -> None:
    """The service is no root and has no capability; a second container goes on with the state of the first."""
    podman.start("first", "kept", "--network=none")
    status = podman("exec", "first", "sh", "-c", "grep -e ^Uid -e ^CapEff /proc/1/status; id -un").split()
    assert status[1:5] != ["0"] * 4
    assert (status[6], status[7]) == ("0" * 16, "provision")
    podman("exec", "first", "sh", "-ec", f"provision apply {MINIMAL}")
    key = podman("exec", "first", "cat", "/var/lib/provision/key")
    podman("stop", "--time=60", "first")
    assert podman("inspect", "--format={{.State.ExitCode}}", "first") == "0\n", podman.log("first")
    assert "ERROR" not in podman.log("first")
    podman.start("second", "kept", "--network=none")
    assert podman("exec", "second", "cat", "/var/lib/provision/key") == key
    told = json.loads(podman("exec", "second", "provision", "--json", "status"))
    assert [host["host"] for host in told["hosts"]] == ["node1"]
    podman("rm", "--force", "second")


def test_it_makes_no_new_key_for_what_another_has_sealed(podman: Podman) -> None:
    podman.run("lost", "provision init && provision status && rm /var/lib/provision/key")
    podman("run", "--detach", "--name=keyless", "--network=none", "--volume=lost:/var/lib/provision", *LIMITS, IMAGE)
    assert podman("wait", "keyless") != "0\n"
    assert "key" in podman.log("keyless")
    assert "key" not in podman.run("lost", "ls /var/lib/provision").split()


@pytest.mark.parametrize(("user", "state"), [("provision", "/var/lib/provision"), ("root", "/root/state")])
def test_what_it_runs_on_the_files_of_strangers_can_be_confined(podman: Podman, user: str, state: str) -> None:
    listen = LISTEN + 'address = "192.0.2.1"\n'
    script = f"provision init; cat >>{state}/provision.toml; provision apply {MINIMAL} >&2; provision dhcp --check"
    said = podman.run(f"checked-{user}", script, [f"--user={user}", f"--env=PROVISION_STATE={state}"], stdin=listen)
    assert "dhcp-host=52:54:00:00:00:01" in said


@isolated
def test_it_serves_a_management_network(podman: Podman) -> None:
    """With the network and the capabilities that docs/deployment.md gives it."""
    script = f"provision init; cat >>/var/lib/provision/provision.toml; provision apply {MINIMAL}"
    podman.run("served", script, stdin=LISTEN)
    with lan("mgmt0", "192.0.2.1/24", "192.0.2.100/24", "52:54:00:00:00:01") as host:
        podman.start("server", "served", "--network=host", f"--cap-add={CAPABILITIES}")
        url = "http://192.0.2.1/pxe/pxelinux.cfg/01-52-54-00-00-00-01"
        text = host.sh(f"curl -sS --retry 20 --retry-connrefused --retry-delay 1 --max-time 10 {url}")
        assert "window-closed" in text or "incomplete" in text
        assert "network boot refused" in host.sh("curl -sS --max-time 10 tftp://192.0.2.1/grub/grub.cfg")
        podman("rm", "--force", "--time=10", "server")
