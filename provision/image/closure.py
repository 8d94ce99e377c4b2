"""What is kept, with all that it needs; a file that is needed and dropped is an error that names both rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from provision.errors import NotFound, Problem
from provision.image import needs_elf, needs_module, needs_python, needs_script, needs_unit, patterns
from provision.image.need import Compiled, Need, Needer, Surroundings
from provision.image.recipe import Action
from provision.image.selection import Decision
from provision.image.tree import Node

NEEDERS: Sequence[Needer] = (
    needs_elf.needs,
    needs_script.needs,
    needs_unit.needs,
    needs_python.needs,
    needs_module.needs,
)
# What stands there comes into being on the running host.
_RUNTIME = ("run/", "proc/", "sys/", "dev/", "var/run/", "tmp/", "var/tmp/", "var/lock/")


@dataclass(frozen=True)
class Kept:
    """Why a path is in the image: it was kept by itself (`by` is None), or `by` needs it as `what`."""

    by: str | None = None
    what: str = ""


@dataclass(frozen=True)
class Closure:
    """Every path of the image with the reason, and what is wrong."""

    kept: Mapping[str, Kept]
    problems: tuple[Problem, ...]


def close(around: Surroundings, decisions: Mapping[str, Decision], roots: Iterable[str] = ()) -> Closure:
    """Follow the needs of everything that is kept, and of `roots`, until nothing new turns up."""
    return _Closing(around, decisions).run(roots)


def needs_of(node: Node, around: Surroundings) -> Iterator[Need]:
    """What a regular file says that it needs."""
    if isinstance(node.content, Compiled):
        yield from node.content.needs
        return
    data = node.content.read()
    for needer in NEEDERS:
        yield from needer(node, data, around)


class _Closing:
    def __init__(self, around: Surroundings, decisions: Mapping[str, Decision]) -> None:
        self.around, self.decisions = around, decisions
        self.kept: dict[str, Kept] = {}
        self.pending: list[str] = []
        self.problems: dict[tuple[str, str], Problem] = {}
        self.opens = [(o.by, o.opens, n) for n, o in enumerate(around.loaded.recipe.opens)]

    def run(self, roots: Iterable[str]) -> Closure:
        for path, decision in self.decisions.items():
            if decision.action is Action.KEEP:
                self._keep(path, Kept())
        for path in roots:
            self._need(Need(path, "itself"), "", self.around.loaded.name)
        while self.pending:
            path = self.pending.pop()
            for need in self._needs(self.around.tree[path]):
                self._need(need, path, f"/{path}")
        return Closure(self.kept, tuple(self.problems.values()))

    def _keep(self, path: str, reason: Kept) -> None:
        if path not in self.kept:
            self.kept[path] = reason
            self.pending.append(path)

    def _needs(self, node: Node) -> Iterator[Need]:
        if node.is_link:
            if not node.target.startswith(_RUNTIME):
                yield Need(node.target, "what it leads to", must_exist=False)
            return
        yield from needs_of(node, self.around)
        yield from self._declared(node)

    def _declared(self, node: Node) -> Iterator[Need]:
        for by, opened, _ in self.opens:
            if patterns.matches(by, f"/{node.path}"):
                # Each member of a brace group is a file of its own, which may be missing.
                for pattern in (single for whole in opened for single in patterns.alternatives(whole)):
                    found = self._matching(pattern)
                    for path in found or [pattern.lstrip("/")]:
                        yield Need(path, f"/{path}, declared in 'opens'")

    def _matching(self, pattern: str) -> list[str]:
        """The paths of all that may be in the image, of which few begin as the pattern does."""
        begins = patterns.stem(pattern).lstrip("/")
        return [path for path in self.decisions if path.startswith(begins) and patterns.matches(pattern, f"/{path}")]

    def _need(self, need: Need, by: str, whose: str) -> None:
        try:
            final, links = self.around.tree.walk(need.path)
        except NotFound as error:
            self._complain(need, by, 0, f"{whose} needs {need.what}: {error.subject} {error.fact}", "drop one of them")
            return
        if final not in self.decisions:
            if not self.around.tree.is_directory(final) and need.must_exist and need.hard:
                fact = f"{whose} needs {need.what}, which no package has"
                self._complain(need, by, self._line(by), fact, f"{self._drop(by)}, or add the package that has it")
                return
            if not self.around.tree.is_directory(final):
                return
        paths = [*links, final] if final in self.decisions else links
        dropped = next((p for p in paths if self.decisions[p].action is Action.DROP), None)
        if dropped is None:
            for path in paths:
                self._keep(path, Kept(by or None, need.what))
        elif need.hard:
            self._conflict(need, by, whose, dropped)

    def _conflict(self, need: Need, by: str, whose: str, dropped: str) -> None:
        rule = self.decisions[dropped].rule
        fact = f"drops /{dropped}, but {whose} needs {need.what}, and is kept by {self._why(by)}"
        if rule is not None:
            key = (by, dropped)
            remedy = f"{self._drop(by)}, or keep /{dropped}"
            self.problems[key] = Problem(rule.file, rule.line, rule.pattern, fact, remedy)

    def _why(self, path: str) -> str:
        """The rule behind a kept path, through whatever needs it."""
        seen = path
        while (reason := self.kept.get(seen)) is not None and reason.by is not None and reason.by != seen:
            seen = reason.by
        decision = self.decisions.get(seen)
        said = str(decision) if decision else "the recipe"
        return said if seen == path else f"/{seen}, {said}"

    def _drop(self, path: str) -> str:
        return f"drop /{path} too" if path else "take it out of the recipe"

    def _line(self, path: str) -> int:
        decision = self.decisions.get(path)
        return decision.rule.line if decision and decision.rule else 0

    def _complain(self, need: Need, by: str, line: int, fact: str, remedy: str) -> None:
        self.problems[(by, need.path)] = Problem(self.around.loaded.name, line, "", fact, remedy)
