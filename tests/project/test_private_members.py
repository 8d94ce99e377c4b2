"""The private members of libraries that the project uses: each is listed here with its reason, and is there.

A library may change them in any version, so read this list before you raise a version. `pyproject.toml` bounds the
versions of a library whose private members the service itself uses.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paths import ROOT
from tests.project.test_architecture import parsed, sources

TOPS = ("provision", "tests", "bench")

# "Where it is defined: its name", and why there is no public way. What the language's own library documents is public.
USED = {
    "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol._start_asgi_task": (
        "the one place where every request's scope and transport can be changed before the application sees them"
    ),
    "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol._unset_keepalive_if_required": (
        "BoundedProtocol feeds the parser by itself, so it also ends the timer that data_received would have ended"
    ),
}
DOCUMENTED = {"os._exit"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def trees() -> dict[Path, ast.Module]:
    return {path: parsed(path) for top in TOPS for path in sources(ROOT / top)}


def defined(tree: ast.AST) -> Iterator[str]:
    """The private names that a file gives to something of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def foreign_imports(tree: ast.AST) -> Iterator[str]:
    """The private modules and names that a file imports from others than this project."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (n for n in names if n.split(".")[0] not in TOPS and any(map(is_private, n.split("."))))


def foreign_attributes(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Private attributes that nothing in the project defines, as they are written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield ast.unparse(node)


def inherited(cls: type, tree: ast.AST) -> Iterator[str]:
    """The private members of a library's class that the body of its subclass `cls` overrides or uses."""
    # A generic class with its parameters is made at run time, and has no body.
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    names = {n.attr for body in bodies for n in ast.walk(body) if isinstance(n, ast.Attribute)}
    names |= {name for body in bodies for name in defined(body)}
    for base in cls.__mro__[1:]:
        if base.__module__.split(".")[0] not in TOPS:
            yield from (f"{base.__module__}.{base.__qualname__}.{n}" for n in names & set(vars(base)) if is_private(n))


def found() -> set[str]:
    """All of them: as "module.Class.name" when a class inherits them, else as the source writes them."""
    files = trees()
    own = {name for tree in files.values() for name in defined(tree) if is_private(name)}
    result: set[str] = set()
    for path, tree in files.items():
        result.update(foreign_imports(tree))
        if path.is_relative_to(ROOT / "provision") and path.name != "__main__.py":
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for _, cls in inspect.getmembers(module, inspect.isclass):
                if cls.__module__ == module.__name__ and "." not in cls.__qualname__:
                    result.update(inherited(cls, tree))
        result.update(name for name in foreign_attributes(tree, own) if not known_by_inheritance(name))
    return {name for name in result - DOCUMENTED if name.split(".")[0] not in sys.stdlib_module_names}


def known_by_inheritance(written: str) -> bool:
    """Whether `self._x` is a listed member of a base class, which `inherited` reports with that class."""
    head, _, name = written.rpartition(".")
    return head in ("self", "super()") and any(listed.endswith(f".{name}") for listed in USED)


def resolve(dotted: str) -> Any:
    """What a dotted name stands for; AttributeError or ImportError when there is no such thing."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            value = getattr(value, name)
        return value
    raise ImportError(dotted)


def test_each_that_is_used_is_listed_and_each_listed_is_used() -> None:
    assert found() == set(USED)


@pytest.mark.parametrize("name", USED)
def test_each_exists(name: str) -> None:
    assert callable(resolve(name))
    assert len(USED[name]) > 20


def test_a_library_with_private_members_in_use_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounded = {re.split(r"[\[<>=!~]", line)[0] for line in project["dependencies"] if "<" in line}
    assert bounded == {name.split(".")[0] for name in USED}


@pytest.mark.parametrize(
    "text", ["from uvicorn._compat import asyncio_run", "import pyroute2._x", "from rich.console import _Secret"]
)
def test_a_private_import_is_seen(text: str) -> None:
    assert list(foreign_imports(ast.parse(text)))
    assert not list(foreign_imports(ast.parse("from provision.seed import _boot_servers\nimport os.path")))


def test_a_private_attribute_is_seen() -> None:
    tree = ast.parse("class A:\n    def _mine(self): self._b = 1\nrequest._form\nA()._mine\nA()._b")
    assert list(foreign_attributes(tree, set(defined(tree)))) == ["request._form"]


def test_an_inherited_private_member_is_seen() -> None:
    class Request(ast.NodeVisitor):
        """A subclass of a library's class."""

    ast.NodeVisitor._go = lambda self: None  # type: ignore[attr-defined]
    try:
        assert not list(inherited(Request, ast.parse("class Request:\n    x = 1")))
        for body in ("def _go(self): ...", "def go(self): self._go()", "def go(self): super()._go()"):
            assert list(inherited(Request, ast.parse(f"class Request:\n    {body}"))) == ["ast.NodeVisitor._go"]
    finally:
        del ast.NodeVisitor._go  # type: ignore[attr-defined]
