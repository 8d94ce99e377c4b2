"""What one file needs of others, and where those who find that out look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from provision.image.modules import Modules
from provision.image.python_modules import PythonIndex
from provision.image.recipe import Loaded
from provision.image.tree import Content, Node, Tree


@dataclass(frozen=True)
class Need:
    """A path (no leading slash) that a file needs, in words as what.

    When a rule drops it, that is an error if the need is `hard`; when no package has it, if it `must_exist`.
    """

    path: str
    what: str
    hard: bool = True
    must_exist: bool = True


@dataclass(frozen=True)
class Compiled:
    """The content of a file that is the bytecode of the module at the path `source`, and what that needs."""

    code: Content
    source: str
    needs: tuple[Need, ...] = ()

    @property
    def size(self) -> int:
        """In bytes."""
        return self.code.size

    def read(self) -> bytes:
        """The bytecode."""
        return self.code.read()


@dataclass(frozen=True)
class Surroundings:
    """All that may be looked up while needs are worked out; `dropped` are the paths that rules drop."""

    tree: Tree
    modules: Modules
    python: PythonIndex
    loaded: Loaded
    dropped: Mapping[str, object]


Needer = Callable[[Node, bytes, Surroundings], Iterable[Need]]
"""Says what a regular file with these bytes needs."""
