"""Modules of an image are compiled by its own interpreter: they load, and what else is there changes no byte."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.image import bytecode, tree
from provision.image.cache import Cache
from provision.image.need import Compiled
from provision.image.tree import Node
from tests.helpers.image_samples import around, file, link, loaded
from tests.helpers.python_samples import LIBRARY, PROGRAM, TAG, interpreter, module

OWN = "usr/lib/provision"
NODES = [
    module("json/__init__"),
    module("json/decoder"),
    module("json/scanner"),
    module("json/encoder"),
    module("colorsys"),
    module("tiny", '"""Says."""\nassert False\nTEXT = "one, two"\ndef says():\n    """More."""\n    return TEXT\n'),
    module("broken", "print 1\n"),
    module("dist-packages/other", "x = 1\n"),
    module("local", "x = 1\n"),
    link(f"{LIBRARY}/linked.py", "/etc/linked.py"),
    file("etc/linked.py", "x = 1\n", 0o644),
    link(f"{LIBRARY}/twice.py", "local.py"),
    tree.file(f"{OWN}/part.py", b'"""Part."""\nimport json\nX = 1\n'),
    tree.file(f"{OWN}/program", b"#!/usr/bin/python3\nimport part\n", 0o755),
]


def compiled(nodes: list[Node], scratch: Path) -> dict[str, Node]:
    """What becomes of these files and an interpreter, with nothing remembered from before."""
    where, _ = around([*interpreter(), *nodes], loaded(), scratch / "modules")
    kept = {node.path: node for node in (*interpreter(), *nodes)}
    return bytecode.compiled(kept, where, Cache(scratch / "cache"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Node]:
    return compiled(NODES, tmp_path_factory.mktemp("image"))


def placed(image: Mapping[str, Node], top: Path) -> Path:
    for node in image.values():
        place = top / node.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if node.is_file:
            place.write_bytes(node.content.read())
    return top


def run(program: str) -> str:
    """What a program prints that has nothing but what it finds by itself, and this machine's modules in C."""
    done = subprocess.run([PROGRAM, "-I", "-B", "-c", program], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_standard_library_is_bytecode_alone_and_other_modules_have_it_beside_them(
    image: Mapping[str, Node],
) -> None:
    sources = {path for path in image if path.endswith(".py")}
    stay = {f"{LIBRARY}/{name}.py" for name in ("broken", "dist-packages/other", "linked", "local", "twice")}
    assert sources == stay | {"etc/linked.py", f"{OWN}/part.py"}
    made = {path: node for path, node in image.items() if path.endswith(".pyc")}
    assert {path for path in made if path.startswith(OWN)} == {f"{OWN}/__pycache__/part.{TAG}.pyc"}
    before = {node.path for node in (*interpreter(), *NODES) if node.path.startswith(LIBRARY)}
    assert {path for path in made if path.startswith(LIBRARY)} == {f"{path}c" for path in before - stay}
    assert {bytecode.source_of(node) for node in made.values()} == (before - stay) | {f"{OWN}/part.py"}
    # PEP 552: not compared with a source, and compared with it by its hash.
    flags = {path: int.from_bytes(node.content.read()[4:8], "little") for path, node in made.items()}
    assert {path for path, flag in flags.items() if flag == 3} == {f"{OWN}/__pycache__/part.{TAG}.pyc"}
    assert set(flags.values()) == {1, 3}
    assert (
        image[f"{LIBRARY}/tiny.pyc"].source == "tiny" and image[f"{OWN}/__pycache__/part.{TAG}.pyc"].source == tree.OWN
    )


def test_all_of_it_loads_and_says_where_it_is_in_the_image(image: Mapping[str, Node], tmp_path: Path) -> None:
    top = placed(image, tmp_path)
    program = f"""
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "json"]:
    del sys.modules[name]
sys.path[:0] = ["{top / LIBRARY}"]
import encodings.utf_8, json, json.decoder, colorsys, tiny
assert json.__file__ == "{top / LIBRARY}/json/__init__.pyc", json.__file__
assert colorsys.__file__.endswith(".pyc") and json.loads('[1, 2]') == [1, 2]
print(tiny.__doc__, tiny.says.__doc__, tiny.says(), tiny.says.__code__.co_filename)
"""
    assert run(program) == f"None None one, two /{LIBRARY}/tiny.py\n"


def test_an_edited_source_counts_even_of_the_same_size_and_time(image: Mapping[str, Node], tmp_path: Path) -> None:
    top = placed(image, tmp_path)
    program = f"import sys; sys.path[:0] = ['{top / OWN}']; import part; print(part.__doc__, part.X, part.__cached__)"
    place = f"{top / OWN}/__pycache__/part.{TAG}.pyc"
    assert run(program) == f"Part. 1 {place}\n"
    # It is the bytecode that counts, as long as it is that of the source.
    good = Path(place).read_bytes()
    Path(place).write_bytes(good.replace(b"Part.", b"Code."))
    assert run(program).startswith("Code. 1 ")
    Path(place).write_bytes(good)
    (top / OWN / "part.py").write_text('"""Part."""\nimport json\nX = 2\n')
    assert run(program) == f"Part. 2 {place}\n"


def test_neither_other_modules_nor_their_number_change_a_byte(image: Mapping[str, Node], tmp_path: Path) -> None:
    for number, nodes in enumerate(([*reversed(NODES)], NODES[:1], NODES[5:6], NODES[-2:])):
        again = compiled(nodes, tmp_path / f"{number}")
        for path, node in again.items():
            assert path.endswith(".py") or node.content.read() == image[path].content.read(), path


def test_a_finished_image_s_bytecode_is_taken_as_it_is(image: Mapping[str, Node], tmp_path: Path) -> None:
    node = image[f"{LIBRARY}/tiny.pyc"]
    assert isinstance(node.content, Compiled)
    stripped = Node(f"{LIBRARY}/tiny.py", node.mode, node.source, node.content)
    again = compiled([stripped], tmp_path)
    assert again[f"{LIBRARY}/tiny.pyc"] == node and stripped.path not in again


def test_without_an_interpreter_all_stays_as_it_is(tmp_path: Path) -> None:
    where, _ = around(NODES, loaded(), tmp_path / "modules")
    kept = {node.path: node for node in NODES}
    assert bytecode.compiled(kept, where, Cache(tmp_path / "cache")) == kept


def test_an_interpreter_that_does_not_run_here_is_named(tmp_path: Path) -> None:
    loader = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    nodes = [*(node for node in interpreter() if node.path != loader), file(loader, b"\x7fELF of another machine")]
    where, _ = around([*nodes, *NODES], loaded(), tmp_path / "modules")
    kept = {node.path: node for node in (*nodes, *NODES)}
    with pytest.raises(Unavailable, match=r"^the image's python3: does not run on this machine: .*; build on amd64"):
        bytecode.compiled(kept, where, Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.py")) and not list((tmp_path / "cache" / "bytecode").iterdir())
