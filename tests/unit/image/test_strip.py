"""Stripping a finished image gives what a build for the platform gives, byte by byte; what is no image is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from provision import proc
from provision.errors import Conflict, Invalid, NotFound, Problems
from provision.image import assemble, build, elf, lock, platforms, report, strip, tree
from provision.image.build import Image
from provision.image.cache import Cache
from provision.image.gather import gather
from provision.image.lock import Lock
from provision.image.packages import Package
from provision.image.recipe import Loaded
from provision.image.tree import Node
from tests.helpers import python_samples
from tests.helpers.image_samples import TOP, file, link, loaded, module

RECIPE = """\
rules:
  files:
    - needed: [/usr/lib/libs/**]
  modules:
    - needed: ["*"]
    - keep: [nic_*, odd]
always: [squashfs, tun]
requests:
  - {by: tun, asks: [cry-sum]}
opens:
  - {by: /usr/bin/tool, opens: [/usr/lib/libs/plugin]}
directories: {/run: "0755", /tmp: "1777", /root: "0700"}
initramfs: {modules: [squashfs], applets: [sh]}
squashfs: {compression: zstd, block: 128, level: 1}
early: {squashfs: {compression: zstd, block: 4, level: 1}, files: ["/{etc,usr/bin,usr/share}/**"]}
"""
PLATFORM = "name: small\nmodules:\n  nic_a: []\nrules:\n  files:\n    - drop: [/usr/bin/tool, /usr/share/**]\n"
LOCK = Lock(("tiny",), (Package("tiny", "1", "amd64", "a" * 64, 5),), {"xz": "0.1"})
NODES = [
    file("boot/vmlinuz-6.1", b"kernel"),
    file(f"{TOP}/modules.builtin", "kernel/crypto/aes.ko\n", 0o644),
    file(f"{TOP}/modules.builtin.modinfo", b"aes.alias=crypto-aes\0", 0o644),
    file(f"{TOP}/modules.order", "kernel/net/nic_a.ko\nkernel/misc/unwanted.ko\n", 0o644),
    module("fs/squashfs"),
    module("net/tun"),
    module("net/nic_a", depends="phy"),
    module("net/nic_b", depends="phy2"),
    module("net/phy", softdep="pre: soft"),
    module("net/phy2"),
    module("lib/soft"),
    module("lib/sum", alias="cry-sum"),
    module("misc/odd"),
    module("misc/unwanted"),
    file("usr/bin/busybox", "busy\0sh\0"),
    file("usr/bin/tool", "tool"),
    file("usr/lib/libs/plugin", "plugin"),
    file("usr/share/big/file", "big", 0o640),
    link("usr/share/big/link", "file"),
    file("etc/odd name", "x", 0o600),
]


def made(target: Path, rules: Loaded, nodes: list[Node], generic: str = "0" * 12) -> Image:
    """The steps of a build after the packages are read."""
    target.parent.mkdir(exist_ok=True)
    cache, tools = Cache(target.parent / "cache"), lock.tool_versions()
    version = build.version_for(generic, rules)
    gathered = gather(rules, nodes, version, cache, lambda what, done: None)
    root = build.packed_root(rules, gathered, tools, cache)
    first = assemble.initramfs(gathered.nodes, ["sh"], [gathered.nodes[f"{TOP}/kernel/fs/squashfs.ko"]], [])
    about = build.put(target, rules, gathered, version, first, root)
    from_source = {"architecture": "amd64", "sha256": "a" * 64, "source": {"name": "tiny", "version": "1"}}
    origins = {node.source: from_source | {"licences": ["Expat"]} for node in NODES}
    build.put_report(target, report.report(about, rules, LOCK, gathered, origins, []), LOCK.text())
    return Image(target, about)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return made(tmp_path / "a" / "whole", loaded(RECIPE, tmp_path), NODES).directory


def given(tmp_path: Path, text: str = PLATFORM) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    return str(path)


def listed(directory: Path) -> dict[str, Any]:
    return {row["path"]: row for row in json.loads((directory / "report.json").read_text())["files"]}


@pytest.mark.parametrize(("more", "archives"), [("", 2), ("small: true\n", 1), ("together: [/usr/bin/*, /etc/*]\n", 1)])
def test_a_stripped_image_is_the_one_that_a_build_for_the_platform_makes(
    tmp_path: Path, whole: Path, more: str, archives: int
) -> None:
    where = given(tmp_path, PLATFORM + more)
    narrow = platforms.narrowed(loaded(RECIPE, tmp_path), Path(where))
    built = made(tmp_path / "b" / "small", narrow, NODES)
    stripped = strip.strip(whole, where, tmp_path / "out", tmp_path / "c")
    assert stripped.about == built.about and stripped.about["platform"] == "small"
    names = {path.name for path in built.directory.iterdir()}
    assert {path.name for path in stripped.directory.iterdir()} == names
    for name in names - {"report.json", "report.html"}:
        assert (stripped.directory / name).read_bytes() == (built.directory / name).read_bytes(), name
    assert listed(tmp_path / "out").keys() == listed(built.directory).keys()
    assert len(strip.read(tmp_path / "out").roots) == archives
    general = json.loads((whole / "image.json").read_text())
    assert general["platform"] is None and general["version"] != stripped.about["version"]


def test_bytecode_is_chosen_by_what_its_source_needed(tmp_path: Path) -> None:
    """Of what a dropped program needed, only that stays which others need, as a build finds out by the sources."""
    nodes = [
        *NODES,
        *python_samples.interpreter(),
        *(python_samples.module(f"only_{name}", "") for name in "ab"),
        python_samples.module("of_tool", "import only_a\ntry:\n    import only_b\nexcept ImportError:\n    pass\n"),
        python_samples.module("of_script", "#! /usr/bin/busybox\nfrom only_b import x\n"),
        file("usr/bin/tool", "#!/usr/bin/python3\nimport of_tool\n"),
        file("usr/bin/script", "#!/usr/bin/python3\nimport of_script\n"),
        tree.file("usr/lib/provision/part.py", b"x = 1\n"),
    ]
    rules = RECIPE.replace("  files:\n", '  python: [{needed: ["only_*", "of_*"]}]\n  files:\n')
    nodes = [*{node.path: node for node in nodes}.values()]
    whole = made(tmp_path / "a" / "whole", loaded(rules, tmp_path), nodes).directory
    where = given(tmp_path, PLATFORM + "    - drop: [/usr/lib/libs/**]\n")
    built = made(tmp_path / "b" / "small", platforms.narrowed(loaded(rules, tmp_path), Path(where)), nodes)
    assert strip.strip(whole, where, tmp_path / "out", tmp_path / "c").about == built.about
    files, before = listed(tmp_path / "out"), listed(whole)
    assert {path: row["why"] for path, row in files.items()} == {
        p: r["why"] for p, r in listed(built.directory).items()
    }
    top = f"/{python_samples.LIBRARY}"
    modules = {path for path in files if "/only_" in path or "/of_" in path}
    assert modules == {f"{top}/{name}.pyc" for name in ("of_script", "only_b")}
    assert {f"{top}/of_tool.pyc", f"{top}/only_a.pyc"} < before.keys()
    assert files[f"{top}/only_b.pyc"]["package"] == "tiny"
    assert files[f"{top}/only_b.pyc"]["why"] == f"{top}/of_script.py needs the Python module only_b"
    assert files[f"/usr/lib/provision/__pycache__/part.{python_samples.TAG}.pyc"]["package"] == tree.OWN
    written = json.loads((whole / "report.json").read_text())
    assert not [path for entry in written["dropped"] for path in entry["paths"] if "of_tool" in path]


def test_a_library_that_recipe_and_platform_both_replace_is_the_same(tmp_path: Path) -> None:
    library = next(Path("/lib/x86_64-linux-gnu").glob("libselinux.so.1"))
    nodes = [*NODES, file("usr/lib/x86_64-linux-gnu/libselinux.so.1", library.read_bytes())]
    both = "stubs: [/usr/lib/x86_64-linux-gnu/libselinux.so.*]\n"
    whole = made(tmp_path / "a" / "whole", loaded(RECIPE + both, tmp_path), nodes).directory
    where = given(tmp_path, PLATFORM + both)
    built = made(tmp_path / "b" / "small", platforms.narrowed(loaded(RECIPE + both, tmp_path), Path(where)), nodes)
    assert strip.strip(whole, where, tmp_path / "out", tmp_path / "c").about == built.about


def test_a_platform_s_stub_that_a_program_opens_is_refused_by_both(tmp_path: Path) -> None:
    # A library that is linked to no other.
    library = elf.stub("libselinux.so.1", (("function", 2),))
    opener = Path("/bin/true").read_bytes() + b"\0libselinux.so.1\0"
    nodes = [
        *NODES,
        file("usr/lib/x86_64-linux-gnu/libselinux.so.1", library),
        file("usr/bin/opener", opener),
        file("usr/lib/x86_64-linux-gnu/libc.so.6"),
        file("usr/lib64/ld-linux-x86-64.so.2"),
    ]
    whole = made(tmp_path / "a" / "whole", loaded(RECIPE, tmp_path), nodes).directory
    stub = "stubs: [/usr/lib/x86_64-linux-gnu/libselinux.so.*]\n"
    where = given(tmp_path, PLATFORM + stub)
    refused = r"small.yaml:7: .*libselinux.so.1 a stub, which /usr/bin/opener opens while it runs"
    with pytest.raises(Problems, match=refused):
        made(tmp_path / "b" / "small", platforms.narrowed(loaded(RECIPE, tmp_path), Path(where)), nodes)
    with pytest.raises(Problems, match=refused):
        strip.strip(whole, where, tmp_path / "out", tmp_path / "c")
    allowed = "opens_stubs:\n  - {by: /usr/bin/opener, opens: [/usr/lib/x86_64-linux-gnu/libselinux.so.1]}\n"
    where = given(tmp_path, PLATFORM + stub + allowed)
    built = made(tmp_path / "b" / "small", platforms.narrowed(loaded(RECIPE, tmp_path), Path(where)), nodes)
    assert strip.strip(whole, where, tmp_path / "out", tmp_path / "c").about == built.about


def test_needs_stay_and_the_rest_goes(tmp_path: Path, whole: Path) -> None:
    before = listed(whole)
    strip.strip(whole, given(tmp_path), tmp_path / "out", tmp_path / "c")
    after = listed(tmp_path / "out")
    gone = {path.removeprefix(f"/{TOP}/kernel/") for path in before.keys() - after.keys()}
    assert gone == {
        "net/nic_b.ko",
        "net/phy2.ko",
        "misc/odd.ko",
        "/usr/bin/tool",
        "/usr/lib/libs/plugin",
        "/usr/share/big/file",
        "/usr/share/big/link",
    }
    for name in ("lib/soft", "lib/sum", "net/phy", "net/tun"):
        assert f"/{TOP}/kernel/{name}.ko" in after, "a soft dependency, a request and always"
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    left_out = {path: entry["rule"] for entry in said["dropped"] for path in entry["paths"]}
    assert left_out[f"/{TOP}/kernel/net/nic_b.ko"] == "'needed nic_*' (recipe.yaml:8): nothing needs it"
    assert left_out[f"/{TOP}/kernel/misc/unwanted.ko"] == "'needed *' (recipe.yaml:7): nothing needs it"
    packed = tmp_path / "root.squashfs"
    packed.write_bytes(strip.read(tmp_path / "out").roots[0])
    listing = proc.run(["unsquashfs", "-lln", "-d", "", packed], package="squashfs-tools").stdout.decode()
    assert "/usr/share" not in listing and f"{TOP}/kernel/misc" not in listing, "no empty directories"
    assert "drwxrwxrwt" in listing and "modules.dep.bin" in listing and "modules.dep\n" not in listing


def test_the_image_says_for_which_platform_it_is(tmp_path: Path, whole: Path) -> None:
    image = strip.strip(whole, given(tmp_path), tmp_path / "out", tmp_path / "c")
    packed = tmp_path / "root.squashfs"
    packed.write_bytes(strip.read(tmp_path / "out").roots[0])
    argv: list[str | Path] = ["unsquashfs", "-cat", packed, "usr/lib/provision/image"]
    shown = proc.run(argv, package="squashfs-tools").stdout.decode()
    assert shown == f"tiny {image.about['version']} for small\n"
    assert " for small: " in (tmp_path / "out" / "report.html").read_text()


def test_what_the_image_has_not_is_said_by_name(tmp_path: Path, whole: Path) -> None:
    text = "name: small\nmodules:\n  nic_a: []\n  nic_z: []\nextra: [unwanted, aes]\n"
    with pytest.raises(Problems) as raised:
        strip.strip(whole, given(tmp_path, text), tmp_path / "out", tmp_path / "c")
    assert [str(problem) for problem in raised.value.problems] == [
        "small.yaml:4: nic_z: the image does not have it; correct or delete it",
        "small.yaml:5: unwanted: the image does not have it; correct or delete it",
    ]
    assert not (tmp_path / "out").exists()
    text = PLATFORM + "  modules:\n    - drop: [phy]\n"
    with pytest.raises(Problems, match=r"small.yaml:8: phy: drops .* needs the kernel module phy"):
        strip.strip(whole, given(tmp_path, text), tmp_path / "out", tmp_path / "c")


def test_what_does_not_fit_together_is_refused(tmp_path: Path, whole: Path) -> None:
    other = given(tmp_path, f"{PLATFORM}kernel: 6.1-2\n")
    with pytest.raises(Conflict, match=r"the image: has Linux 6\.1, and the platform small .* against 6\.1-2"):
        strip.strip(whole, other, tmp_path / "out", tmp_path / "c")
    strip.strip(whole, given(tmp_path), tmp_path / "out", tmp_path / "c")
    with pytest.raises(Conflict, match="is for the platform small already"):
        strip.strip(tmp_path / "out", given(tmp_path), tmp_path / "out2", tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("initrd", None, r"initrd: cannot be read \(No such file"),
        ("initrd", b"x" * 99999, "initrd: is not what image.json says"),
        ("vmlinuz", b"x", "vmlinuz: is not what image.json says"),
        ("image.json", b"{}", "image.json: does not describe an image"),
        ("report.json", b"{}", "report.json: is not a report"),
        ("report.json", None, "report.json: cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, whole: Path, name: str, damage: bytes | None, said: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(whole, broken)
    if damage is None:
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(damage)
    with pytest.raises((NotFound, Invalid), match=said):
        strip.strip(broken, given(tmp_path), tmp_path / "out", tmp_path / "c")


def test_the_report_of_another_image_is_refused(tmp_path: Path, whole: Path) -> None:
    row = json.loads((whole / "report.json").read_text())
    row["image"]["version"] = "other"
    (whole / "report.json").write_text(json.dumps(row))
    with pytest.raises(Invalid, match=r"report.json: is not of this image"):
        strip.strip(whole, given(tmp_path), tmp_path / "out", tmp_path / "c")


def test_a_lock_of_another_image_is_refused(tmp_path: Path, whole: Path) -> None:
    assert strip.read(whole).locked == LOCK.text()
    (whole / lock.FILE).write_text(Lock((), (), {}).text())
    with pytest.raises(Invalid, match=r"lock.json: is not of this image; build the image again"):
        strip.strip(whole, given(tmp_path), tmp_path / "out", tmp_path / "c")
