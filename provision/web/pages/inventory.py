"""The inventory: files are sent, the difference of each looked at, and then made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.document import Source
from provision.errors import Invalid, Problem, Problems
from provision.inventory.diff import Difference
from provision.inventory.origins import by_file
from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import form_of, get, post
from provision.web.pages.rendering import Pages

MOST_FILES = 100
_LONGEST_NAME = 100


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    inventories = pages.service.inventories

    def page(
        request: Request, files: Sequence[Source], prune: bool, status: int = 200, spare: int = 0, **values: object
    ) -> Response:
        usual = {"parts": None, "notes": (), "seen": "", "confirm": False, "problems": (), "applied": False}
        shown = [(file.name, file.text.decode()) for file in files] + [("", "")] * (spare if files else 1)
        return pages.page(request, "inventory", status, files=shown, prune=prune, **{**usual, **values})

    def show(request: Request) -> Response:
        return page(request, [], False)

    def send(request: Request) -> Response:
        principal, form = required(request.scope, PrincipalRole.ADMIN, whole=True), form_of(request)
        files, prune, tag = files_of(form), form.get("prune") == "yes", inventories.tag()
        if form.get("more") == "yes":
            return page(request, files, prune, spare=1)
        try:
            _, changes, confirm = inventories.preview(files, prune)
        except Problems as error:
            return page(request, files, prune, error.status, problems=_grouped(error.problems))
        seen = fingerprint(files, prune, changes)
        if form.get("seen") != seen:
            # Not seen yet, or the store has changed since: what is applied was looked at.
            parts, notes = by_file(files, changes), changes.notes
            return page(request, files, prune, parts=parts, notes=notes, seen=seen, confirm=confirm)
        confirmed = form.get("confirmed") == "yes"
        made, _ = inventories.apply(
            files, prune=prune, confirmed=confirmed, principal=principal, fits=lambda now: now == tag
        )
        return page(request, [], False, parts=by_file(files, made), notes=made.notes, applied=True)

    return [get("/inventory", show), post("/inventory", send)]


def files_of(form: Mapping[str, str]) -> list[Source]:
    """The files of a form: `text` and `name`, `text-2` and `name-2`, and so on. Empty ones are left out, unless
    there is no other. Raises Invalid for too many files, and for a name that is not one, or is there twice."""
    marks = [f"-{number}" if number > 1 else "" for number in range(1, MOST_FILES + 1)]
    if any(field.startswith("text") for field in form.keys() - {f"text{mark}" for mark in marks}):
        # What is left out unsaid would be removed: its hosts are in no file.
        raise Invalid("inventory", f"has more than {MOST_FILES} files", "join some, or run 'provision apply'")
    files: list[Source] = []
    for number, mark in enumerate(marks, 1):
        text = form.get(f"text{mark}", "").replace("\r\n", "\n")
        if text.strip() or number == 1:
            files.append(Source(_name(form.get(f"name{mark}", ""), mark), text.encode()))
    if len(files) > 1 and not files[0].text.strip():
        del files[0]
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(twice, "is the name of two files", "give each file a name of its own")
    return files


def _name(text: str, mark: str) -> str:
    text = text.strip()
    if len(text) > _LONGEST_NAME or not text.isprintable():
        fact = f"is not a valid name for a file, which has at most {_LONGEST_NAME} printable characters"
        raise Invalid("name", fact, "give the file another name")
    return text or f"inventory{mark}.yaml"


def _grouped(problems: Sequence[Problem]) -> list[tuple[str, list[Problem]]]:
    """Problems by their files, in which they come by their lines."""
    by_place = sorted(problems, key=lambda problem: (problem.file, problem.line))
    return [(file, list(found)) for file, found in groupby(by_place, key=lambda problem: problem.file)]


def fingerprint(files: Sequence[Source], prune: bool, changes: Difference) -> str:
    """What stands for an inventory and its difference: who sends it has seen them."""
    texts = [part for file in files for part in (file.name, hashlib.sha256(file.text).hexdigest())]
    parts = (*texts, str(prune), *changes.lines(), *changes.notes)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
