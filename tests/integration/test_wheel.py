"""The wheel works alone: installed into a fresh environment, with its dependencies but without the source tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers.paths import ROOT

SHIPPED = ("examples", "images", "templates")

# What is needed by what the wheel needs, by the metadata of what is installed.
CLOSURE = """\
from importlib.metadata import requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
seen, todo = set(), [("provision", "")]
while todo:
    name, extra = item = todo.pop()
    if item not in seen:
        seen.add(item)
        for need in map(Requirement, requires(name) or ()):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(need.name), one) for one in ("", *need.extras)]
print(*sorted({name for name, _ in seen}))
"""

LISTEN = """\
[[listen]]
network = "mgmt"
interface = "eth9"
address = "192.0.2.1"
"""


@dataclass(frozen=True)
class Installed:
    """A wheel, and the environment that it was installed into."""

    wheel: Path
    prefix: Path

    @property
    def site(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.prefix / "lib" / version / "site-packages"

    def run(self, *argv: str | Path, cwd: Path) -> str:
        """What a program of the environment prints; it knows nothing of this checkout."""
        program, *rest = map(str, argv)
        done = subprocess.run(
            [str(self.prefix / "bin" / program), *rest],
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


def python(*argv: str | Path) -> None:
    done = subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("provision-wheel")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", directory)
    [wheel] = directory.glob("provision-*.whl")
    venv.create(directory / "venv", with_pip=False, symlinks=True)
    installed = Installed(wheel, directory / "venv")
    # A path line adds a directory without reading the .pth files in it, so an editable install there stays unseen.
    dependencies = sorted(p for p in sys.path if p.endswith(("site-packages", "dist-packages")))
    (installed.site / "dependencies.pth").write_text("".join(f"{path}\n" for path in dependencies))
    pip = ("-m", "pip", "--disable-pip-version-check", "--python", installed.prefix / "bin" / "python")
    python(*pip, "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", wheel)
    return installed


def test_the_libraries_of_the_documented_installation_are_all_that_it_needs(
    installed: Installed, tmp_path: Path
) -> None:
    """pip takes the lock by its hashes, finds nothing left to fetch, and what the wheel needs is in it, and no more."""
    lock, python_of_it = ROOT / "requirements-server.lock", installed.prefix / "bin" / "python"
    pip = ("-m", "pip", "--disable-pip-version-check", "--python", python_of_it)
    python(*pip, "install", "--quiet", "--no-index", "--require-hashes", "--dry-run", "-r", lock)
    pinned = map(Requirement, re.findall(r"^([a-z0-9-]+==[^\\\n]+)", lock.read_text(), re.MULTILINE))
    pins = {one.name for one in pinned if one.marker is None or one.marker.evaluate()}
    found = installed.run("python", "-c", CLOSURE, cwd=tmp_path).split()
    assert pins - {"greenlet"} == set(found) - {"greenlet", "provision"}  # which some platforms need


def test_it_is_not_the_source_tree(installed: Installed, tmp_path: Path) -> None:
    seen = json.loads(installed.run("python", "-c", "import json, sys; print(json.dumps(sys.path))", cwd=tmp_path))
    assert str(ROOT) not in seen
    where = installed.run("python", "-c", "import provision; print(provision.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.site)


def test_it_holds_every_shipped_file(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist()}
    shipped = {
        f"provision/{path.relative_to(ROOT).as_posix()}": path.read_bytes()
        for top in SHIPPED
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    modules = {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in (ROOT / "provision").rglob("*.py")}
    assert {name for name, data in (shipped | modules).items() if held.get(name) != data} == set()
    assert not [name for name in held if name.startswith(("tests/", "bench/"))]


def test_its_modules_import(installed: Installed, tmp_path: Path) -> None:
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in (ROOT / "provision").rglob("*.py")]
    names = sorted(name.removesuffix(".__init__") for name in names if not name.endswith(".__main__"))
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)\nprint('ok')"
    assert installed.run("python", "-c", code, cwd=tmp_path) == "ok\n"


def test_its_command_line_works(installed: Installed, tmp_path: Path) -> None:
    """From nothing to a rendered DHCP configuration, with the wheel's own example and templates."""
    assert "First steps" in installed.run("provision", "--help", cwd=tmp_path)
    state = tmp_path / "state"
    installed.run("provision", "--state", state, "init", cwd=tmp_path)
    (state / "provision.toml").write_text(LISTEN)
    example = installed.site / "provision" / "examples" / "minimal.yaml"
    installed.run("provision", "--state", state, "apply", example, cwd=tmp_path)
    explained = json.loads(installed.run("provision", "--state", state, "--json", "explain", "node1", cwd=tmp_path))
    assert {row["medium"] for row in explained} == {"pxe", "http-boot", "iso", "disk"}
    text = installed.run("provision", "--state", state, "dhcp", "--check", cwd=tmp_path)
    assert "dhcp-host=52:54:00:00:00:01" in text
    assert "http://192.0.2.1/pxe/" in text


def test_its_other_templates_render(installed: Installed, tmp_path: Path) -> None:
    code = (
        "from provision.render import grub, isolinux, pxelinux\n"
        "from provision.render.target import BootTarget\n"
        "target = BootTarget('node1', '/boot/vmlinuz', ('/boot/initrd0.img',), '/boot/seed.img', ('quiet',))\n"
        "print((pxelinux.boot_config(target) + grub.medium_config(target) + isolinux.boot_config(target)).decode())\n"
    )
    assert installed.run("python", "-c", code, cwd=tmp_path).count("/boot/seed.img") == 3
