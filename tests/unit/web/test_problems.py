"""No error repeats what was sent: a canary in every member of every body, in every path, query and header."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.site_fixture import Reply, Site, request

CANARY = "Canary-7d1f<e2!of a guess"
FORMS = (CANARY, quote(CANARY), CANARY.upper(), CANARY.lower(), CANARY.replace("<", "\\u003c"))
_NOTHING: Any = None
_APP = operator_app.create(_NOTHING, by_peer_credentials).app
assert isinstance(_APP, FastAPI)
DOCUMENT = _APP.openapi()
OPERATIONS = [
    (method, path, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]
HEADERS = ("content-type", "range", "if-match", "if-none-match", "if-range", "accept", "x-forwarded-for", "forwarded")
_DEPTH = 4
_FILE_NAMES = ("name", "names")
"""Members of inventories and imports by which an operator's own file is named in messages."""


@pytest.fixture
def app(here: Site) -> Guard:
    return operator_app.create(here.service, by_peer_credentials)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return resolved(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return schema


def places(schema: dict[str, Any], depth: int = _DEPTH) -> Iterator[tuple[str | int, ...]]:
    """Where a value may stand in what has this schema: the whole, each member, each element, each value of a map."""
    yield ()
    schema = resolved(schema)
    if not depth:
        return
    for choice in schema.get("anyOf", ()):
        yield from places(choice, depth)
    for name, member in schema.get("properties", {}).items():
        yield from ((name, *rest) for rest in places(member, depth - 1))
    if isinstance(values := schema.get("additionalProperties"), dict):
        yield from ((CANARY, *rest) for rest in places(values, depth - 1))
    if "items" in schema:
        yield from ((0, *rest) for rest in places(schema["items"], depth - 1))


def put(whole: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A copy of `whole` with the value there."""
    if not place:
        return value
    first, rest = place[0], place[1:]
    if isinstance(first, int):
        return [put(whole[0] if isinstance(whole, list) and whole else None, rest, value)]
    inner = dict(whole) if isinstance(whole, dict) else {}
    return {**inner, first: put(inner.get(first), rest, value)}


def bodies(operation: dict[str, Any]) -> Iterator[bytes]:
    """Bodies with the canary in one place each: as text, as a key, in a list, after the end, and as no JSON."""
    content = operation["requestBody"]["content"]
    if "application/json" not in content:
        yield from (CANARY.encode() + b"\n\0" + CANARY.encode(), b"")
        return
    schema = content["application/json"]["schema"]
    single = resolved(schema.get("items", schema))
    example = copy.deepcopy(single["examples"][0])
    example = [example] if "items" in schema else example
    for place in dict.fromkeys(places(schema)):
        if not any(part in _FILE_NAMES for part in place[1:]):
            for value in (CANARY, {CANARY: CANARY}, [CANARY], f"{CANARY}\n{CANARY}", -1):
                yield json.dumps(put(example, place, value)).encode()
    yield json.dumps(put(example, () if isinstance(example, list) else (CANARY,), CANARY)).encode()
    yield json.dumps(example).encode() + CANARY.encode()
    yield f'{{"{CANARY}'.encode()


def addresses(path: str, operation: dict[str, Any]) -> Iterator[str]:
    """Paths with the canary as one of their names, or in one value of the query, or as a name that there is not."""
    named = {p["name"]: p["in"] for p in operation.get("parameters", ())}
    usual = {name: "node1" for name, where in named.items() if where == "path"}
    plain = path.format(**usual)
    yield plain
    for name, where in named.items():
        if where == "path":
            yield path.format(**usual | {name: CANARY.replace("/", "")})
        else:
            yield f"{plain}?{name}={quote(CANARY)}"
    yield f"{plain}?{quote(CANARY)}={quote(CANARY)}"
    yield f"{plain}/{CANARY}"


def require_silent(reply: Reply, sent: object) -> None:
    if reply.status < 400:
        return
    said = reply.body.decode() + repr(reply.headers)
    assert not any(form in said for form in FORMS), (sent, said)
    if reply.body:
        assert reply.problem["status"] < 500 or reply.status == 503


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=lambda value: str(value)[:40])
def test_no_error_repeats_what_was_sent(
    app: Guard, caplog: Any, method: str, path: str, operation: dict[str, Any]
) -> None:
    sent = 0
    for address in addresses(path, operation):
        if operation["operationId"] == "check_inventory" and "server=" not in address:
            continue  # it would ask this machine's resolver
        require_silent(request(app, method.upper(), address, peer="uid=0"), address)
        for header in HEADERS:
            require_silent(request(app, method.upper(), address, headers={header: CANARY}, peer="uid=0"), header)
        sent += 1
    if "requestBody" in operation:
        address = next(addresses(path, operation))
        for body in bodies(operation):
            for kind in ("application/json", "text/plain"):
                reply = request(app, method.upper(), address, headers={"content-type": kind}, body=body, peer="uid=0")
                require_silent(reply, body)
            sent += 1
    assert sent and CANARY not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/inventory", "GET, POST"),
        ("PATCH", "/v1/images/base", "DELETE, POST"),
        ("POST", "/v1/hosts/node1/bmc", "DELETE, GET, HEAD, PUT"),
        ("HEAD", "/v1/hosts", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(app: Guard, method: str, path: str, allowed: str) -> None:
    reply = request(app, method, path, peer="uid=0")
    assert reply.status == 405 and reply.headers["allow"] == allowed
    assert reply.problem["title"] == "method-not-allowed"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "x"])
def test_a_body_that_is_not_json_is_not_taken(here: Site, app: Guard, kind: str) -> None:
    body = json.dumps({"name": "ci", "role": "admin"}).encode()
    reply = request(app, "POST", "/v1/tokens", body=body, headers={"content-type": kind}, peer="uid=0")
    assert reply.status == 415 and reply.problem["title"] == "unsupported-media-type"
    assert here.service.tokens.listing() == []


def test_what_is_not_there_is_a_problem_too(app: Guard) -> None:
    assert request(app, "GET", "/v1/nothing", peer="uid=0").problem["title"] == "not-found"
