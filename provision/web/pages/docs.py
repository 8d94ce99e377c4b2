"""The API's description for people, made on the server from the OpenAPI document, with nothing from elsewhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from provision.service.service import Service
from provision.web.operator import app as operator_app
from provision.web.operator.description import ROLE, WHOLE
from provision.web.operator.request import principal_of
from provision.web.pages.asking import get
from provision.web.pages.rendering import Pages

_JSON = "application/json"
_FAILED = 400
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "pattern": "of the form {}",
    "default": "{} without it",
}
"""What of a schema people want to know, in words."""


@dataclass(frozen=True)
class Field:
    """A parameter of an operation, or a member of its body."""

    name: str
    where: str
    required: bool
    kind: str


@dataclass(frozen=True)
class Answer:
    """A status that an operation may answer with; `example` is of its body."""

    status: str
    title: str
    text: str
    example: str


@dataclass(frozen=True)
class Operation:
    """One operation: who may use it, what it takes and answers, and a command line that uses it."""

    id: str
    method: str
    path: str
    text: str
    role: str
    whole: bool
    fields: tuple[Field, ...]
    body: str
    answers: tuple[Answer, ...]
    errors: tuple[Answer, ...]
    curl: str


@dataclass(frozen=True)
class Group:
    """Operations of one kind."""

    name: str
    title: str
    operations: tuple[Operation, ...]


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    description = _Description(pages.service)

    def docs(request: Request) -> Response:
        principal_of(request.scope)
        return pages.page(request, "docs", groups=description.groups)

    def document(request: Request) -> Response:
        principal_of(request.scope)
        return JSONResponse(description.document)

    return [get("/docs", docs), get("/docs/api.json", document)]


class _Description:
    """Made when it is asked for the first time: few processes are."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @cached_property
    def document(self) -> Mapping[str, Any]:
        return operator_app.description(self._service)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return groups_of(self.document)


def groups_of(document: Mapping[str, Any]) -> tuple[Group, ...]:
    """The operations of an OpenAPI document by their tags, in the order of both."""
    schemas, found = document["components"]["schemas"], list(_operations(document))
    return tuple(
        Group(
            tag["name"],
            tag["description"],
            tuple(_shown(*one, schemas) for one in found if tag["name"] in one[2]["tags"]),
        )
        for tag in document["tags"]
    )


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def _shown(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Operation:
    parameters = operation.get("parameters", [])
    kind, body, example = _body(operation, schemas)
    answers = [_answer(status, answer) for status, answer in sorted(operation["responses"].items())]
    return Operation(
        id=operation["operationId"],
        method=method,
        path=path,
        text=operation["description"],
        role=operation[ROLE],
        whole=operation[WHOLE],
        fields=(*(_parameter(one, schemas) for one in parameters), *_members(body, schemas)),
        body=example,
        answers=tuple(answer for answer in answers if int(answer.status) < _FAILED),
        errors=tuple(answer for answer in answers if int(answer.status) >= _FAILED),
        curl=_curl(method, path, parameters, kind, example),
    )


def _parameter(parameter: Mapping[str, Any], schemas: Mapping[str, Any]) -> Field:
    where = {"path": "in the path", "query": "in the query"}.get(parameter["in"], f"as a {parameter['in']}")
    return Field(parameter["name"], where, parameter.get("required", False), kind_of(parameter["schema"], schemas))


def _body(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], str]:
    """The media type of an operation's body, its schema, and an example of it; all empty when there is none."""
    content = operation.get("requestBody", {}).get("content", {})
    if not content:
        return "", {}, ""
    kind, described = next(iter(content.items()))
    schema = described["schema"]
    one = _resolved(schema.get("items", schema), schemas)
    example = next(iter(one.get("examples", ())), None)
    if example is None:
        return kind, schema, ""
    return kind, schema, json.dumps([example] if "items" in schema else example, indent=2)


def _members(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Field]:
    """The members of a body's model, or of each of a list."""
    model = _resolved(schema.get("items", schema), schemas)
    where = "in each element of the body" if "items" in schema else "in the body"
    for name, member in model.get("properties", {}).items():
        yield Field(name, where, name in model.get("required", ()), kind_of(member, schemas))


def kind_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """What values have a schema, in words."""
    found = _resolved(schema, schemas)
    if "anyOf" in found:
        kinds = [kind_of(choice, schemas) for choice in found["anyOf"] if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in found:
        return "one of " + ", ".join(map(str, found["enum"]))
    said = [str(found.get("format") or found.get("type", "any value"))]
    said += [f"of {kind_of(found['items'], schemas)}"] if "items" in found else []
    both = {**found, **schema}
    said += [text.format(_value(both[key])) for key, text in _BOUNDS.items() if both.get(key) not in (None, [], {}, "")]
    return ", ".join(said)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        return _resolved(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    return schema


def _answer(status: str, answer: Mapping[str, Any]) -> Answer:
    example = next((content.get("example") for content in answer.get("content", {}).values()), None)
    shown = "" if example is None else example if isinstance(example, str) else json.dumps(example, indent=2)
    return Answer(status, HTTPStatus(int(status)).phrase, answer["description"], shown)


def _curl(method: str, path: str, parameters: list[Mapping[str, Any]], kind: str, example: str) -> str:
    """A command line that does it, with the token in a file of its own: what is in a command line everybody sees."""
    filled = path
    for parameter in parameters:
        if parameter["in"] == "path":
            filled = filled.replace(f"{{{parameter['name']}}}", quote(str(parameter["example"])))
    words = ["curl", "--cacert", "ca.pem", "--header", "@token.header"]
    if method == "HEAD":
        words.append("--head")
    elif method != "GET" or kind:
        words += ["--request", method]
    if kind:
        data = json.dumps(json.loads(example)) if example and kind == _JSON else "@FILE"
        words += ["--header", f"Content-Type: {kind}", "--data-binary", data]
    return f'{shlex.join(words)} "https://$SERVER{filled}"'
