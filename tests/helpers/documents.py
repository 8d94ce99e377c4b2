"""Reads the project's Markdown: sections, tables, fenced blocks, command lines."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tests.helpers.paths import ROOT

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_SPAN = re.compile(r"`(provision [^`]+)`")


@dataclass(frozen=True)
class Document:
    """One Markdown file of the project."""

    name: str
    text: str

    @classmethod
    def read(cls, name: str) -> Document:
        return cls(name, (ROOT / name).read_text())

    def section(self, heading: str) -> Document:
        """What stands below a `## heading`, up to the next one."""
        parts = re.split(r"^## ", self.text, flags=re.MULTILINE)
        [found] = [part for part in parts if part.partition("\n")[0] == heading]
        return Document(f"{self.name}: {heading}", found)

    def tables(self) -> list[list[list[str]]]:
        """Every table: its rows without the heading, each a list of cells."""
        tables: list[list[list[str]]] = []
        inside = False
        for line in self.text.splitlines():
            if line.startswith("|"):
                if not inside:
                    tables.append([])
                tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
            inside = line.startswith("|")
        return [rows[2:] for rows in tables]

    def table(self, number: int = 0) -> dict[str, list[str]]:
        """A table's rows by the code in the first cell (all of that cell's code spans, joined by a space)."""
        rows = {" ".join(codes(row[0])): row for row in self.tables()[number]}
        assert len(rows) == len(self.tables()[number]), "two rows are about the same thing"
        return rows

    def blocks(self, language: str) -> list[str]:
        """The text of every fenced block in that language, without what it is indented by."""
        found = [m for m in _FENCE.finditer(self.text) if m[2] == language]
        return [re.sub(rf"^{m[1]}", "", m[3], flags=re.MULTILINE) for m in found]

    def shell_lines(self) -> list[list[str]]:
        """The arguments of every `provision …` in the shell blocks."""
        lines = [line for block in self.blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
        return [arguments for line in lines if (arguments := _arguments(line)) is not None]

    def spans(self) -> list[list[str]]:
        """The arguments of every `provision …` in a code span of the running text."""
        return [shlex.split(span)[1:] for span in _SPAN.findall(_FENCE.sub("", self.text))]


def codes(cell: str) -> list[str]:
    """The code spans of a cell."""
    return _CODE.findall(cell)


def _arguments(line: str) -> list[str] | None:
    """What follows `provision` where it is the program of a line, also behind `runuser -u NAME --`."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["runuser"] and "--" in words:
        words = words[words.index("--") + 1 :]
    return [word for word in words[1:] if word != "&"] if words[:1] == ["provision"] else None
