"""`recipe.yaml`: what a host image is made of, checked, with the line of every rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from provision import document
from provision.document import Node, Source, dotted, place
from provision.errors import NotFound, Problem, Problems
from provision.image import releases
from provision.messages import Vocabulary, complaints

_PACKAGE = r"^[a-z0-9][a-z0-9+.-]+$"
_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
_PATH = r"^/[^\x00-\x20]*$"
_PATTERN = r"^[^\x00-\x20]+$"
_MODE = r"^[01][0-7]{3}$"
_ACCOUNT = r"^[a-z_][a-z0-9_-]{0,30}$"
_UNIT = r"^[A-Za-z0-9@_.:\\-]+\.(service|socket|target|timer|path|mount|slice)$"


def _normal(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("has a dot segment; write the path itself")
    return path


PackageName = Annotated[str, StringConstraints(pattern=_PACKAGE)]
Name = Annotated[str, StringConstraints(pattern=_NAME)]
AbsolutePath = Annotated[str, StringConstraints(pattern=_PATH), AfterValidator(_normal)]
Pattern = Annotated[str, StringConstraints(pattern=_PATTERN)]
Mode = Annotated[str, StringConstraints(pattern=_MODE)]
Account = Annotated[str, StringConstraints(pattern=_ACCOUNT)]
Unit = Annotated[str, StringConstraints(pattern=_UNIT)]

VOCABULARY = Vocabulary(
    words={
        _PACKAGE: "a package's name has lower-case letters, digits and +-.",
        _NAME: "a name has lower-case letters, digits and -",
        _PATH: "write a path from / on, with no spaces",
        _PATTERN: "a pattern has no spaces",
        _MODE: "write a mode as octal digits, such as 0755",
        _ACCOUNT: "an account has lower-case letters, digits, - and _",
        _UNIT: "write a unit with its suffix, such as sshd.service",
    }
)


_Read = TypeVar("_Read", bound=BaseModel)


class Action(StrEnum):
    """What a rule says of what it matches; `needed` is kept if something that is kept needs it."""

    KEEP = "keep"
    NEEDED = "needed"
    DROP = "drop"


class Scope(StrEnum):
    """What the patterns of a rule are matched against."""

    PACKAGES = "packages"
    MODULES = "modules"
    PYTHON = "python"
    FILES = "files"


class Model(BaseModel):
    """What all parts of a recipe are: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleEntry(Model):
    """One step of a list of rules, with one of the three actions."""

    keep: tuple[Pattern, ...] = ()
    needed: tuple[Pattern, ...] = ()
    drop: tuple[Pattern, ...] = ()


class Rules(Model):
    """The rules of each scope in their order."""

    packages: tuple[RuleEntry, ...] = ()
    modules: tuple[RuleEntry, ...] = ()
    python: tuple[RuleEntry, ...] = ()
    files: tuple[RuleEntry, ...] = ()


class Opens(Model):
    """What programs open by name while they run: files that match `opens`, for every kept file that matches `by`."""

    by: Pattern
    opens: tuple[Pattern, ...] = Field(min_length=1)


class Requests(Model):
    """What a kernel module asks for by name while it runs: names or aliases of others."""

    by: Pattern
    asks: tuple[Pattern, ...] = Field(min_length=1)


class User(Model):
    """An account: number (its own group has the same), home, shell, and the further groups it is in."""

    id: int = Field(ge=0, le=65535)
    home: AbsolutePath = "/nonexistent"
    shell: AbsolutePath = "/usr/sbin/nologin"
    groups: tuple[Account, ...] = ()


class Units(Model):
    """Units to start by themselves, and units that cannot be started."""

    enable: tuple[Unit, ...] = ()
    mask: tuple[Unit, ...] = ()


class Initramfs(Model):
    """What stands in the small first archive: kernel modules and BusyBox's applets."""

    modules: tuple[Pattern, ...] = ()
    applets: tuple[Pattern, ...] = ()


class Squashfs(Model):
    """How the root file system is packed; `block` in KiB, `level` for zstd only."""

    compression: Literal["xz", "zstd"] = "xz"
    block: int = Field(default=1024, ge=4, le=1024)
    level: int = Field(default=19, ge=1, le=22)


class Early(Model):
    """What every host reads while it starts: files that are packed apart from the root, to be read faster."""

    squashfs: Squashfs = Squashfs(compression="zstd", level=22)
    files: tuple[Pattern, ...] = Field(min_length=1)


class Recipe(Model):
    """A whole recipe. Paths are absolute in the image; `vetoes` are modules with the reason why none is detected.

    `opens_stubs` has the programs that could open a stub by name, and never do on a host; no other may.
    """

    name: PackageName
    packages: tuple[PackageName, ...] = Field(min_length=1)
    rules: Rules = Rules()
    always: tuple[Pattern, ...] = ()
    vetoes: dict[Pattern, str] = {}
    opens: tuple[Opens, ...] = ()
    requests: tuple[Requests, ...] = ()
    stubs: tuple[AbsolutePath, ...] = ()
    opens_stubs: tuple[Opens, ...] = ()
    units: Units = Units()
    users: dict[Account, User] = {}
    groups: dict[Account, int] = {}
    links: dict[AbsolutePath, Pattern] = {}
    directories: dict[AbsolutePath, Mode] = {}
    applets: tuple[Pattern, ...] = ()
    initramfs: Initramfs = Initramfs()
    squashfs: Squashfs = Squashfs()
    early: Early | None = None
    kernel_arguments: tuple[Pattern, ...] = ()
    report_groups: dict[str, tuple[Pattern, ...]] = {}


@dataclass(frozen=True)
class Rule:
    """One pattern with its action, and where it stands."""

    action: Action
    pattern: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"'{self.action} {self.pattern}' ({self.file}:{self.line})"


@dataclass(frozen=True)
class Narrowing:
    """What a platform makes of a recipe: its name and text, the kernel that it is for, and rules that come last.

    Of the kernel modules that the recipe's rules keep, only those come into the image that something needs. With
    `small` nothing is packed apart to start faster. Files that match `together` are packed in one piece.
    """

    name: str
    file: str
    text: str
    kernel: str | None
    rules: Mapping[Scope, tuple[Rule, ...]]
    stubs: tuple[Rule, ...] = ()
    opens_stubs: tuple[Opens, ...] = ()
    small: bool = False
    together: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """A checked recipe, where it stands, its text and that text's places, for a release of Debian (see `releases`).

    It is for one platform when it is `narrowed`.
    """

    recipe: Recipe
    directory: Path
    name: str
    root: Node
    text: str = ""
    release: str = ""
    narrowed: Narrowing | None = None

    @property
    def early(self) -> Early | None:
        """What is packed apart; nothing for a platform that is to be small."""
        return None if self.narrowed and self.narrowed.small else self.recipe.early

    def rules(self, scope: Scope) -> tuple[Rule, ...]:
        """The rules of a scope, one for each pattern, in their order."""
        return tuple(self._rules(scope))

    def _rules(self, scope: Scope) -> Iterator[Rule]:
        by_need = self.narrowed if scope is Scope.MODULES else None
        if by_need:
            yield Rule(Action.NEEDED, "*", by_need.file, 1)
        for rule in entries(self.recipe.rules, scope, self.name, self.root):
            yield replace(rule, action=Action.NEEDED) if by_need and rule.action is Action.KEEP else rule
        if scope is Scope.MODULES:
            for index, pattern in enumerate(self.recipe.always):
                yield Rule(Action.KEEP, pattern, self.name, self.line("always", index))
        if self.narrowed:
            yield from self.narrowed.rules.get(scope, ())

    def stubs(self) -> Iterator[Rule]:
        """The patterns of libraries that are replaced by stand-ins."""
        for index, pattern in enumerate(self.recipe.stubs):
            yield Rule(Action.KEEP, pattern, self.name, self.line("stubs", index))
        if self.narrowed:
            yield from self.narrowed.stubs

    def opens_stubs(self) -> tuple[Opens, ...]:
        """What may open stubs: the recipe's and the platform's."""
        return (*self.recipe.opens_stubs, *(self.narrowed.opens_stubs if self.narrowed else ()))

    def line(self, *path: str | int) -> int:
        """The line of the value at a path, or of the deepest that exists above it."""
        return place(self.root, path)[1]

    def problem(self, path: tuple[str | int, ...], fact: str, remedy: str = "") -> Problem:
        """A problem of the value at that path."""
        return Problem(self.name, self.line(*path), dotted(path), fact, remedy)


def entries(rules: Rules, scope: Scope, name: str, root: Node) -> Iterator[Rule]:
    """The rules of a scope as the file `name` has them, read from the tree at `root`, one for each pattern."""
    for number, entry in enumerate(getattr(rules, scope)):
        for action in Action:
            for index, pattern in enumerate(getattr(entry, action)):
                _, line = place(root, ("rules", scope.value, number, action.value, index))
                yield Rule(action, pattern, name, line)


def load(path: Path, release: str | None = None) -> Loaded:
    """Read and check a recipe for a release, this machine's when None.

    Raises Problems with everything that is wrong with it, NotFound when it is not there.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise NotFound(str(path), f"cannot be read ({error.strerror})", "name a recipe with --recipe") from None
    return parse(text, path.name, path.parent, release or releases.of_machine())


def parse(text: bytes, name: str, directory: Path, release: str = "") -> Loaded:
    """Check a recipe's text; `name` is its file's, for messages, and `directory` holds what it brings along.

    With no release there is nothing in it of what it says of one.
    """
    recipe, root = checked(text, name, Recipe, release)
    loaded = Loaded(recipe, directory, name, root, text.decode(), release)
    if found := list(_crosschecks(loaded)):
        raise Problems(found, name)
    return loaded


def checked(text: bytes, name: str, model: type[_Read], release: str = "") -> tuple[_Read, Node]:
    """A file's text for a release as its model, and the tree with the places; raises Problems."""
    read = document.read(Source(name, text))
    problems = list(read.problems)
    found: _Read | None = None
    root = releases.chosen(read.root, release) if read.root is not None else None
    if root is not None:
        try:
            found = model.model_validate(root.plain())
        except ValidationError as error:
            for path, fact, remedy, _kind in complaints(error, model, root, VOCABULARY):
                file, line = place(root, path)
                problems.append(Problem(file, line, dotted(path), fact, remedy))
    if problems or found is None or root is None:
        raise Problems(problems, name)
    return found, root


def one_action_each(rules: Rules, name: str, root: Node) -> Iterator[Problem]:
    """Steps of rules that have none of the actions, or several."""
    for scope in Scope:
        for number, entry in enumerate(getattr(rules, scope)):
            if sum(bool(getattr(entry, action)) for action in Action) != 1:
                path = ("rules", scope.value, number)
                fact, remedy = "has not exactly one of keep, needed, drop", "rules apply in order: write one each"
                yield Problem(name, place(root, path)[1], dotted(path), fact, remedy)


def _crosschecks(loaded: Loaded) -> Iterator[Problem]:
    """What no single value shows."""
    recipe = loaded.recipe
    yield from one_action_each(recipe.rules, loaded.name, loaded.root)
    yield from _repeated(loaded, ("packages",), recipe.packages)
    yield from _repeated(loaded, ("always",), recipe.always)
    yield from _repeated(loaded, ("units", "enable"), recipe.units.enable)
    both = set(recipe.units.enable) & set(recipe.units.mask)
    for unit in sorted(both):
        yield loaded.problem(("units", "mask", recipe.units.mask.index(unit)), f"{unit} is enabled too", "keep one")
    numbers: dict[int, str] = {}
    for kind in ("groups", "users"):
        for name, value in getattr(recipe, kind).items():
            number = value if isinstance(value, int) else value.id
            if numbers.setdefault(number, name) != name:
                yield loaded.problem((kind, name), f"has the number {number} of {numbers[number]}", "take another")
    known = {*recipe.users, *recipe.groups}
    for name, user in recipe.users.items():
        for index, group in enumerate(user.groups):
            if group not in known:
                yield loaded.problem(("users", name, "groups", index), f"there is no group {group}", "add it")


def _repeated(loaded: Loaded, path: tuple[str | int, ...], values: tuple[Any, ...]) -> Iterator[Problem]:
    first: dict[Any, int] = {}
    for index, value in enumerate(values):
        if value in first:
            line = loaded.line(*path, first[value])
            yield loaded.problem((*path, index), f"{value} is named twice, first in line {line}", "keep one")
        first.setdefault(value, index)
