"""`platform.yaml`: which kernel modules one kind of machine needs, and for what hardware, checked and written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from provision.document import Node, dotted, place
from provision.errors import Conflict, NotFound, Problem, Problems
from provision.image.recipe import (
    AbsolutePath,
    Action,
    Loaded,
    Model,
    Name,
    Narrowing,
    Opens,
    Pattern,
    Rule,
    Rules,
    Scope,
    checked,
    entries,
    one_action_each,
)

Text = Annotated[str, StringConstraints(min_length=1)]
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_SHIPPED = "platforms"


class Hardware(Model):
    """A device that needs a module: where it is (`at`), what it is in words, and the modalias that says so."""

    at: Text
    what: str = ""
    alias: str = ""


class Firmware(Model):
    """Files that modules may ask for, by module: those that the image's packages have, and those that none has."""

    packaged: dict[Pattern, tuple[Pattern, ...]] = {}
    missing: dict[Pattern, tuple[Pattern, ...]] = {}


class Platform(Model):
    """A whole platform.

    `kernel` is the version that the hardware was matched against; without it the platform goes with every kernel that
    has its modules. `modules` were detected, `vetoed` too, but the recipe says why no image has them. `extra` (names or
    patterns as in a recipe's rules), `rules`, `stubs`, `opens_stubs`, `small` and `together` are for people to write.
    What is `small` starts slower: nothing of it is packed apart. Files that are packed `together` take less room in the
    image, and their full size of the memory.
    """

    name: Name
    hardware: str = ""
    kernel: Pattern | None = None
    modules: dict[Pattern, tuple[Hardware, ...]] = {}
    vetoed: dict[Pattern, Text] = {}
    firmware: Firmware = Firmware()
    extra: tuple[Pattern, ...] = ()
    rules: Rules = Rules()
    stubs: tuple[AbsolutePath, ...] = ()
    opens_stubs: tuple[Opens, ...] = ()
    small: bool = False
    together: tuple[AbsolutePath, ...] = ()


def find(given: str, recipe: Path) -> Path:
    """The file that is meant: a path, or the name of a platform that ships beside the recipe at that path."""
    shipped = recipe.parent / _SHIPPED
    path = shipped / f"{given}.yaml" if re.fullmatch(r"[a-z0-9][a-z0-9-]*", given) else Path(given)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped.glob("*.yaml"))) or "none"
        raise NotFound(given, "is not a platform file", f"name a file, or one that ships with the recipe: {known}")
    return path


def narrowed(loaded: Loaded, path: Path) -> Loaded:
    """The recipe for the platform in a file; raises NotFound, or Problems with everything that is wrong with it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise NotFound(str(path), f"cannot be read ({error.strerror})", "name another with --platform") from None
    return apply(loaded, *parse(text, path.name, loaded.release), text.decode())


def parse(text: bytes, name: str, release: str = "") -> tuple[Platform, Node]:
    """Check a platform's text for a release; raises Problems, with `name` for its file."""
    platform, root = checked(text, name, Platform, release)
    problems = list(one_action_each(platform.rules, name, root))
    for index, module in enumerate(platform.extra):
        if module in platform.extra[:index] or module in platform.modules:
            line = place(root, ("extra", index))[1]
            problems.append(Problem(name, line, dotted(("extra", index)), f"{module} is named twice", "keep one"))
    if problems:
        raise Problems(problems, name)
    return platform, root


def apply(loaded: Loaded, platform: Platform, root: Node, text: str) -> Loaded:
    """The recipe for a platform that was read: its modules and rules come after the recipe's own."""

    def line(*path: str | int) -> int:
        return place(root, path)[1]

    wanted = [Rule(Action.KEEP, module, root.file, line("modules", module)) for module in platform.modules]
    wanted += [Rule(Action.KEEP, m, root.file, line("extra", index)) for index, m in enumerate(platform.extra)]
    rules = {scope: tuple(entries(platform.rules, scope, root.file, root)) for scope in Scope}
    rules[Scope.MODULES] = (*wanted, *rules[Scope.MODULES])
    stubs = tuple(Rule(Action.KEEP, s, root.file, line("stubs", index)) for index, s in enumerate(platform.stubs))
    how = (platform.opens_stubs, platform.small, platform.together)
    return replace(loaded, narrowed=Narrowing(platform.name, root.file, text, platform.kernel, rules, stubs, *how))


def check_kernel(narrowed: Narrowing | None, version: str, subject: str) -> None:
    """Raise Conflict when the platform was matched against another kernel than `subject` has."""
    if narrowed and narrowed.kernel not in (None, version):
        fact = f"has Linux {version}, and the platform {narrowed.name} was matched against {narrowed.kernel}"
        remedy = "detect it again from its capture, or delete the line 'kernel' if the modules are the same"
        raise Conflict(subject, fact, remedy)


def write(platform: Platform) -> str:
    """The platform as YAML: the same text every time, and read back the same."""
    return "\n".join(_lines(platform)) + "\n"


def _lines(platform: Platform) -> Iterator[str]:
    yield f"name: {_scalar(platform.name)}"
    if platform.hardware:
        yield f"hardware: {_scalar(platform.hardware)}"
    if platform.kernel:
        yield f"kernel: {_scalar(platform.kernel)}"
    if platform.modules:
        yield "modules:"
    for module, devices in platform.modules.items():
        yield f"  {_scalar(module)}:{'' if devices else ' []'}"
        for device in devices:
            fields = ", ".join(f"{k}: {_scalar(v)}" for k, v in device.model_dump().items() if v)
            yield f"    - {{{fields}}}"
    if platform.vetoed:
        yield "vetoed:"
    yield from (f"  {_scalar(module)}: {_scalar(why)}" for module, why in platform.vetoed.items())
    firmware = {kind: files for kind, files in platform.firmware if files}
    if firmware:
        yield "firmware:"
    for kind, files in firmware.items():
        yield f"  {kind}:"
        yield from (f"    {_scalar(module)}: [{_listed(names)}]" for module, names in files.items())
    if platform.extra:
        yield f"extra: [{_listed(platform.extra)}]"
    yield from _rules(platform.rules)
    if platform.stubs:
        yield f"stubs: [{_listed(platform.stubs)}]"


def _rules(rules: Rules) -> Iterator[str]:
    scopes: Mapping[str, tuple[Mapping[str, tuple[str, ...]], ...]] = rules.model_dump()
    if any(scopes.values()):
        yield "rules:"
    for scope, steps in scopes.items():
        if steps:
            yield f"  {scope}:"
        for step in steps:
            yield from (f"    - {action}: [{_listed(patterns)}]" for action, patterns in step.items() if patterns)


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(_scalar(value) for value in values)


def _scalar(text: str) -> str:
    """A text that YAML reads back as it is: plain where nothing in it can be taken for anything else."""
    if _PLAIN.fullmatch(text) and text.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n"):
        return text
    # Of double-quoted YAML this is the part that JSON has too, but for what no device should say of itself.
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'
