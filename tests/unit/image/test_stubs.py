"""Stubs are for what is linked and never called; a program that opens a library by name would believe a stub."""

from __future__ import annotations

import json
import marshal
from collections.abc import Mapping
from pathlib import Path

import pytest

from provision.image import elf, stubs, tree
from provision.image.recipe import Action, Opens, Rule
from provision.image.tree import Node
from tests.helpers.image_samples import file, note

LIB = "usr/lib/x86_64-linux-gnu"
STUB = tree.file(f"{LIB}/libbpf.so.1.5", elf.stub("libbpf.so.1", (("bpf_object__load", 2),)))
RULES = (Rule(Action.KEEP, f"/{LIB}/libbpf.so.*", "recipe.yaml", 7),)
TRUE = Path("/bin/true").read_bytes()


def image(*nodes: Node) -> Mapping[str, Node]:
    return {node.path: node for node in (STUB, *nodes)}


def says(priority: str, *names: str) -> bytes:
    return note(0x407C0C0A, b"FDO", json.dumps([{"priority": priority, "soname": names}]).encode())


def program(*strings: str) -> bytes:
    """A program of this machine with more strings at its end."""
    return TRUE + b"".join(b"\0" + text.encode() for text in strings) + b"\0"


@pytest.mark.parametrize(
    ("path", "data"),
    [
        *(("usr/lib/systemd/systemd", says(each, "libbpf.so.1")) for each in ("required", "recommended", "suggested")),
        ("usr/lib/systemd/systemd", says("suggested", "libbpf.so.2", "libbpf.so.1")),
        ("usr/lib/systemd/systemd", program("libbpf.so.1")),
        ("usr/lib/systemd/systemd", program("other", "/usr/lib/x86_64-linux-gnu/libbpf.so.1")),
        ("usr/lib/systemd/systemd", program("libbpf.so.1.5", "other")),
        ("usr/lib/python3/bpf.py", b"import ctypes\nctypes.CDLL('libbpf.so.1')\n"),
        ("usr/lib/python3/bpf.py", b'LIBRARY = "libbpf.so.1"\n'),
        ("usr/lib/python3/bpf.py", marshal.dumps(compile("LIBRARY = 'libbpf.so.1'", "", "exec"))),
    ],
)
def test_a_stub_that_is_opened_by_name_is_refused(path: str, data: bytes) -> None:
    [problem] = stubs.opened(RULES, (), image(file(path, data)))
    assert str(problem) == (
        f"recipe.yaml:7: /{LIB}/libbpf.so.*: makes /{LIB}/libbpf.so.1.5 a stub, which /{path} opens while it runs and "
        f"takes for the library; keep the library, drop /{path}, or name it in 'opens_stubs' if no host gets that far"
    )


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("usr/bin/other", says("required", "libbpf.so.2")),
        ("usr/bin/other", program("libbpf.so.10", "mylibbpf.so.1", "see libbpf.so.1", "libbpf.so.1: gone")),
        ("usr/bin/script", b"#!/bin/sh\necho libbpf.so.1 'libbpf.so.1'\n"),
        ("usr/lib/python3/bpf.py", b"# Like libbpf.so.1.\n"),
        ("usr/lib/python3/bpf.py", marshal.dumps(compile("LIBRARY = 'mylibbpf.so.1'", "", "exec"))),
        ("usr/lib/modules/6.1/bpf.ko", program("libbpf.so.1")),
    ],
)
def test_to_be_linked_or_to_speak_of_a_library_is_not_to_open_it(path: str, data: bytes) -> None:
    assert list(stubs.opened(RULES, (), image(file(path, data)))) == []


def test_whoever_is_linked_to_a_library_does_not_open_it() -> None:
    """The name of a needed library stands in the file as well, among the strings for the dynamic linker."""
    [needed] = elf.dynamic(TRUE).needed
    stub = tree.file(f"{LIB}/{needed}", elf.stub(needed, ()))
    rules = (Rule(Action.KEEP, f"/{stub.path}", "recipe.yaml", 7),)
    linked = {stub.path: stub, "usr/bin/true": file("usr/bin/true", TRUE)}
    assert list(stubs.opened(rules, (), linked)) == []
    both = {**linked, "usr/bin/both": file("usr/bin/both", program(needed))}
    assert ["/usr/bin/both opens" in str(problem) for problem in stubs.opened(rules, (), both)] == [True]


def test_what_never_gets_that_far_is_named_in_the_recipe() -> None:
    nodes = image(file("usr/bin/a", program("libbpf.so.1")), file("usr/bin/b", program("libbpf.so.1")))
    allowed = (Opens(by="/usr/bin/a", opens=(f"/{LIB}/libbpf.so.*",)),)
    assert ["/usr/bin/b opens" in str(problem) for problem in stubs.opened(RULES, allowed, nodes)] == [True]
    other = (Opens(by="/usr/bin/*", opens=(f"/{LIB}/libelf.so.*",)),)
    assert len(list(stubs.opened(RULES, other, nodes))) == 2


def test_a_library_itself_may_be_opened() -> None:
    whole = tree.file(STUB.path, STUB.content.read(), source="libbpf1")
    opener = file("usr/bin/a", program("libbpf.so.1"))
    assert list(stubs.opened(RULES, (), {whole.path: whole, opener.path: opener})) == []
