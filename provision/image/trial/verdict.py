"""What use cases say on their serial port, one fact a line; images/usecases/run prints it.

USECASE begin NAME...
USECASE log NAME TEXT
USECASE pass NAME REASON        or: USECASE fail NAME REASON
USECASE end
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from provision.errors import Invalid

BEGIN, END = r"^USECASE begin .+$", r"^USECASE end$"
_LINE = re.compile(r"USECASE (?P<word>begin|log|pass|fail|end)(?: (?P<rest>.*))?")


@dataclass(frozen=True)
class Verdict:
    """How one use case came out, why in one line, and (of a failed one) the last lines that it printed."""

    name: str
    passed: bool
    reason: str
    log: tuple[str, ...] = ()


def parse(text: str) -> tuple[Verdict, ...]:
    """The verdict on every use case that was begun, in that order; those that were not reached have failed.

    Raises Invalid for any line that is not exactly of this protocol, or comes where it cannot.
    """
    names: list[str] = []
    found: dict[str, Verdict] = {}
    logs: dict[str, list[str]] = defaultdict(list)
    ended = False
    # Without its newline a line may be half of one.
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        match = _LINE.fullmatch(line.rstrip())
        where = f"line {number} of the use cases' report"
        if match is None or ended:
            raise Invalid(
                where, f"'{line[:60]}' is not something that use cases report {'after their end' if ended else ''}"
            )
        word, name, rest = match["word"], *_split(match["rest"] or "")
        if word == "begin" and not names:
            names = [name, *rest.split()]
            continue
        ended = word == "end" and bool(names) and not name
        if not ended and (word in ("begin", "end") or name not in names or name in found):
            raise Invalid(where, f"'{line[:60]}' is not allowed there")
        if word == "log":
            logs[name].append(rest)
        elif not ended:
            found[name] = Verdict(name, word == "pass", rest, tuple(logs[name]))
    lost = "the machine stopped, or its time was up, before this one was done"
    return tuple(found.get(name, Verdict(name, False, lost, tuple(logs[name]))) for name in names)


def _split(text: str) -> tuple[str, str]:
    name, _, rest = text.partition(" ")
    return name, rest
