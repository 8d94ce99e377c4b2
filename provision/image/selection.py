"""Rules -> what becomes of every path, before needs are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from provision.image import modules, patterns, python_modules
from provision.image.recipe import Action, Loaded, Rule, Scope
from provision.image.tree import OWN, Tree


@dataclass(frozen=True)
class Decision:
    """What becomes of a path, and the rule that says so; None when no rule does: the path is kept."""

    action: Action
    rule: Rule | None = None

    def __str__(self) -> str:
        return str(self.rule) if self.rule else "no rule: what no rule names is kept"


@dataclass
class Selection:
    """The decision for every path but directories, and the rules that nothing matched."""

    decisions: dict[str, Decision]
    idle: list[Rule] = field(default_factory=list)

    def dropped(self) -> Mapping[str, Decision]:
        """The paths that rules drop."""
        return {path: d for path, d in self.decisions.items() if d.action is Action.DROP}


def select(tree: Tree, loaded: Loaded) -> Selection:
    """Decide for every path: a rule for files says more than one for a module, and that more than one for a package.

    Within a scope the last rule that matches wins.
    """
    scopes = {scope: _Scope(loaded.rules(scope), scope) for scope in Scope}
    decisions: dict[str, Decision] = {}
    for path, node in tree.items():
        if node.is_directory:
            continue
        if node.source == OWN:
            decisions[path] = Decision(Action.KEEP)
            continue
        rule = (
            scopes[Scope.FILES].find(f"/{path}")
            or scopes[Scope.PYTHON].find(python_modules.name_of(path))
            or _module(scopes[Scope.MODULES], path)
            or scopes[Scope.PACKAGES].find(node.source)
        )
        decisions[path] = Decision(rule.action, rule) if rule else Decision(Action.KEEP)
    return Selection(decisions, [rule for scope in scopes.values() for rule in scope.idle()])


def _module(scope: _Scope, path: str) -> Rule | None:
    name = modules.name_of(path)
    if name is None:
        return None
    by_name, by_path = scope.position(name), scope.position(modules.inside(path))
    position = max(by_name, by_path)
    return scope.rules[position] if position >= 0 else None


class _Scope:
    """The rules of one scope, arranged so that a path meets few of them."""

    def __init__(self, rules: Sequence[Rule], scope: Scope) -> None:
        self.rules = rules
        self._used = [False] * len(rules)
        self._plain: dict[str, int] = {}
        self._globs: list[tuple[int, str]] = []
        self._scope = scope
        by_name = scope is Scope.MODULES
        self._patterns = [
            modules.spelled(rule.pattern) if by_name and "/" not in rule.pattern else rule.pattern for rule in rules
        ]
        for number, pattern in enumerate(self._patterns):
            if patterns.is_plain(pattern) and scope is Scope.FILES:
                self._plain[pattern] = number
            else:
                self._globs.append((number, patterns.stem(pattern)))
        self._globs.reverse()

    def find(self, text: str | None) -> Rule | None:
        """The last rule that matches."""
        position = self.position(text) if text else -1
        return self.rules[position] if position >= 0 else None

    def position(self, text: str) -> int:
        """The number of the last rule that matches; -1 when there is none."""
        plain = self._plain.get(text, -1)
        for number, stem in self._globs:
            if number < plain:
                break
            if text.startswith(stem) and self._matches(self._patterns[number], text):
                plain = number
                break
        if plain >= 0:
            self._used[plain] = True
        return plain

    def _matches(self, pattern: str, text: str) -> bool:
        match self._scope:
            case Scope.PYTHON:
                return fnmatchcase(text, pattern) or text.startswith(f"{pattern}.")
            case Scope.PACKAGES:
                return fnmatchcase(text, pattern)
        return patterns.matches(pattern, text)

    def idle(self) -> Iterator[Rule]:
        """Rules that decided nothing."""
        return (rule for rule, used in zip(self.rules, self._used, strict=True) if not used)


def unmatched(rules: Iterable[Rule]) -> list[Rule]:
    """Of idle rules those that are a mistake: what they keep is not there."""
    return [rule for rule in rules if rule.action is Action.KEEP]
