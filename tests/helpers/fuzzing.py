"""Requests made from the description of the operator's API, good ones and bad ones, and what no answer may be."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from requests import PreparedRequest, Request
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.schemas import OpenApiSchema

from provision.api.problem import MEDIA_TYPE, ProblemDocument

Document = dict[str, Any]
Send = Callable[[PreparedRequest], tuple[int, dict[str, str], bytes]]
"""Sends a request; the status, headers in lower case, and body of its answer."""

UNREACHABLE = frozenset({"check_bmc", "check_inventory", "get_power", "get_ready"})
"""Operations that say with 503 that something outside does not work: there is no network, no BMC and no resolver."""

_LEAST = 8
"""Characters of a value that is looked for in errors: shorter ones stand there by chance."""
_NAME = re.compile(r"[a-z0-9-]{1,63}")
_REAL: dict[str, tuple[str, ...]] = {"name": ("node1", "node3", "base", "token"), "host": ("node1", "node2")}
_ID = re.compile(r"[0-9a-f]+")
_FILES = ("name", "names")
_METHODS = ("get", "put", "post", "delete", "head")


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    """The id of each operation, and a document that has it alone."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield operation["operationId"], document | {"paths": {path: {method: operation}}}


def fuzz(document: Document, send: Send, examples: int, *, derandomize: bool) -> None:
    """Send `examples` requests of the one operation of `document`; every answer has to be as it is described."""
    schema = schemathesis.openapi.from_dict(copy.deepcopy(document))
    assert isinstance(schema, OpenApiSchema)
    (found,) = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    described = found.definition.raw["responses"]
    ours = {name for model in document["components"]["schemas"].values() for name in model.get("properties", ())}
    modes = [found.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=st.one_of(*modes), real=st.one_of(st.none(), st.integers(0, 5)))
    def one(case: Any, real: int | None) -> None:
        for key, names in _REAL.items():
            if real is not None and key in (case.path_parameters or {}):
                case.path_parameters[key] = names[real % len(names)]
        made = case.as_transport_kwargs(base_url="http://provision")
        taken = ("method", "url", "headers", "params", "json", "data", "files", "cookies")
        prepared = Request(**{key: value for key, value in made.items() if key in taken}).prepare()
        status, headers, body = send(prepared)
        allowed = {503} if found.definition.raw["operationId"] in UNREACHABLE else set()
        assert status < 500 or status in allowed, (prepared.url, status, body)
        assert str(status) in described, f"undocumented: {status} {body!r}"
        sent = [case.path_parameters, case.query, case.body, dict(case.headers or {})]
        require_good([text for text in values(sent) if text not in ours], described[str(status)], status, headers, body)

    one()


def require_good(sent: list[str], described: Document, status: int, headers: dict[str, str], body: bytes) -> None:
    """An answer has a type that is described; a refusal is a problem document that repeats nothing of the request."""
    kind = headers.get("content-type", "").partition(";")[0]
    if body:
        assert kind in described.get("content", {}), f"undocumented: {kind}"
    if status < 400 or not body:
        return
    assert kind == MEDIA_TYPE
    problem = json.loads(body)
    assert ProblemDocument.model_validate_json(body).status == status == problem["status"]
    for value in sent:
        assert value.encode() not in body and json.dumps(value)[1:-1].encode() not in body, f"echoed: {value!r}"


def values(sent: Any) -> Iterator[str]:
    """Every text in what was sent, keys and values, that no error may repeat. Names and ids may stand there, which are
    of a type by then, and an operator's own names of files, by which a problem says where it is."""
    if isinstance(sent, dict):
        for key, value in sent.items():
            yield from values(key)
            if key not in _FILES:
                yield from values(value)
    elif isinstance(sent, list | tuple):
        for value in sent:
            yield from values(value)
    elif isinstance(sent, str) and len(sent) >= _LEAST and not (_NAME.fullmatch(sent) or _ID.fullmatch(sent)):
        yield sent
