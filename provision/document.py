"""YAML text -> a tree that knows where every value stands.

The tree is built from the parser's events, so that nothing is ever guessed: a plain scalar stays the text that was
written, except that the null words of the YAML 1.2 core schema (section 10.2.1.1) are None. The domain's types then
decide what a value is. A MAC of decimal digits is never a base-60 number, ``0600`` never 384, ``no`` never False.
Anchors, aliases and tags are refused: an inventory's own `defaults` and `groups` are the one way to say things once.
Inventories and image recipes are read by it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from provision.errors import Problem

MAX_BYTES = 64 * 1024 * 1024
"""The size of all files of one inventory together."""
MAX_DEPTH = 32
"""How deep mappings and lists may stand in one another; the schema itself needs fewer than ten."""
MAX_VALUES = 2_000_000
"""Values (scalars, mappings, lists) of all files of one inventory together; ten thousand hosts have about 400,000."""

Path = tuple[str | int, ...]
"""Where a value stands below the root: keys of mappings and indexes of lists."""

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
# What may make a file look different from what it says, or end a line in one program and not in another: control
# characters but tab and line ends, zero-width and bidirectional characters, Unicode's own line ends, noncharacters.
_FORBIDDEN = "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]"
_FORBIDDEN_TEXT = re.compile(_FORBIDDEN)
_ASCII_CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """One file: its `name` as the operator knows it, its bytes, and the bytes of the files it names.

    `attachments` holds certificate files by the path written in `ca_certificate_files`.
    """

    name: str
    text: bytes
    attachments: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Node:
    """A value and where it stands: `line` (from 1) is that of its key, or of its first character in a list."""

    file: str
    line: int
    value: str | list[Node] | dict[str, Node] | None

    def child(self, part: str | int) -> Node | None:
        """The value at a mapping's key or a list's index; None when there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            return self.value[part]
        return None

    def plain(self) -> Any:
        """The value with no positions in it: None, text, lists and dicts."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(frozen=True)
class Document:
    """What one file holds: `root` is None when it could not be read; `problems` says why, or what else is wrong."""

    root: Node | None
    problems: tuple[Problem, ...]
    values: int = 0


def place(node: Node, path: Path) -> tuple[str, int]:
    """File and line of the deepest node on `path`."""
    for part in path:
        deeper = node.child(part)
        if deeper is None:
            break
        node = deeper
    return node.file, node.line


def dotted(path: Path) -> str:
    """A path as messages show it."""
    return ".".join(map(str, path))


class _Stop(Exception):
    """Reading cannot go on."""

    def __init__(self, line: int, fact: str, remedy: str) -> None:
        super().__init__(fact)
        self.line, self.fact, self.remedy = line, fact, remedy


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    node: Node
    key: str | None = None
    last_key: str = ""
    key_line: int = 0
    skipped: bool = False


def read(source: Source, budget: int = MAX_VALUES) -> Document:
    """Read one file of at most `budget` values. Never raises: what cannot be read is a problem with its line."""
    builder = _Builder(source.name, budget)
    try:
        _screen(source.text)
        for event in _events(source.text):
            builder.take(event)
        root = builder.root
        if root is None or root.value is None:
            raise _Stop(1, "the file is empty", "write something into it, or leave the file out")
    except _Stop as stop:
        last = Problem(source.name, stop.line, "", stop.fact, stop.remedy)
        return Document(None, (*builder.problems, last), builder.count)
    return Document(root, tuple(builder.problems), builder.count)


def _screen(text: bytes) -> None:
    """Refuse what YAML itself would take, or would refuse in words of its own."""
    if len(text) > MAX_BYTES:
        raise _Stop(0, f"the file is larger than {MAX_BYTES >> 20} MiB", "split it into several")
    if text.isascii() and not _ASCII_CONTROL.search(text):
        return
    for line, raw in enumerate(io.BytesIO(text), start=1):
        _screen_line(line, raw)


def _screen_line(line: int, raw: bytes) -> None:
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _Stop(line, f"byte {error.start + 1} of the line is not UTF-8", "save the file as UTF-8") from None
    found = _FORBIDDEN_TEXT.search(text)
    if found:
        column = found.start() + 1
        raise _Stop(line, f"column {column} holds the invisible character U+{ord(found[0]):04X}", "delete it")


def _events(text: bytes) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        fact = f"is not valid YAML at column {column}: {error.problem or error.context or 'unknown'}"
        raise _Stop(line, fact, _hint(text, line, str(error.problem))) from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", 0)
        line = text[:position].count(b"\n") + 1 if isinstance(position, int) else 0
        raise _Stop(line, "is not valid YAML", "correct the text there") from None


def _hint(text: bytes, line: int, problem: str) -> str:
    lines = text.splitlines()
    written = lines[line - 1] if 0 < line <= len(lines) else b""
    if b"\t" in written[: len(written) - len(written.lstrip())]:
        return "indent with spaces, not with tabs"
    if "mapping values are not allowed" in problem:
        return "look for a missing space, quote or indentation before the colon"
    return "correct the text there or on the line before"


class _Builder:
    """Takes the events of one file and holds the tree."""

    def __init__(self, file: str, budget: int) -> None:
        self.file, self.budget = file, budget
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.count = 0
        self._open: list[_Open] = []
        self._documents = 0
        self._known: dict[str, str] = {}

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._value(event, self._scalar(event))
        elif isinstance(event, yaml.MappingStartEvent):
            self._start(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._start(event, [])
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()
        elif isinstance(event, yaml.AliasEvent):
            raise _Stop(_line(event), f"aliases (*{event.anchor}) are not read", "write it out where it is needed")
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _Stop(_line(event), "a second document begins here", "put it into a file of its own")

    def _scalar(self, event: Any) -> str | None:
        self._refuse_properties(event)
        text: str = event.value
        if not text.isprintable():
            found = _FORBIDDEN_TEXT.search(text)
            if found:
                raise _Stop(_line(event), f"the text holds the invisible character U+{ord(found[0]):04X}", "delete it")
        plain_key = bool(self._open) and isinstance(self._open[-1].node.value, dict) and self._open[-1].key is None
        if text in _NULL and not event.style and not plain_key:
            return None
        # Keys and short words come again in every host; one object of each saves most of the memory.
        return self._known.setdefault(text, text) if len(text) < 16 and len(self._known) < 65536 else text

    def _refuse_properties(self, event: Any) -> None:
        if event.tag is not None:
            raise _Stop(_line(event), "tags ('!...') are not read", "leave the tag out")
        if event.anchor is not None:
            raise _Stop(_line(event), f"anchors (&{event.anchor}) are not read", "write it out where it is needed")

    def _start(self, event: Any, value: dict[str, Node] | list[Node]) -> None:
        self._refuse_properties(event)
        if len(self._open) >= MAX_DEPTH:
            raise _Stop(_line(event), f"is nested deeper than {MAX_DEPTH} levels", "no document needs that")
        self._open.append(_Open(self._value(event, value)))

    def _value(self, event: Any, value: Any) -> Node:
        """Put a value where it belongs: a key, a mapping's value, a list's item or the root."""
        self.count += 1
        if self.count > self.budget:
            raise _Stop(_line(event), f"there are more than {MAX_VALUES} values", "split it into several")
        node = Node(self.file, _line(event), value)
        if not self._open:
            self.root = node
            return node
        top = self._open[-1]
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif isinstance(top.node.value, dict) and top.key is None:
            self._key(top, node)
        elif isinstance(top.node.value, dict) and top.key is not None:
            node.line = top.key_line
            if not top.skipped:
                top.node.value[top.key] = node
            top.key = None
        return node

    def _key(self, top: _Open, node: Node) -> None:
        if not isinstance(node.value, str):
            raise _Stop(node.line, "a key must be one word or text", "write it as 'key: value'")
        top.key = top.last_key = node.value
        top.key_line = node.line
        earlier = top.node.value.get(node.value) if isinstance(top.node.value, dict) else None
        top.skipped = earlier is not None
        if earlier is not None:
            path = ".".join(part for part in (self._path(), node.value) if part)
            fact = f"'{node.value}' is written twice, first in line {earlier.line}"
            self.problems.append(Problem(self.file, node.line, path, fact, "keep one of them"))

    def _path(self) -> str:
        parts = [str(len(o.node.value) - 1) if isinstance(o.node.value, list) else o.last_key for o in self._open[:-1]]
        return ".".join(parts)


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1
