"""The application's description of itself (OpenAPI): what no route's type says, and an example of each answer."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from provision.api.problem import ProblemDocument
from provision.web.operator.request import failures, needed

TAGS = {
    "inventory": "The inventory: applied as a whole, read, checked against DNS",
    "hosts": "Hosts: what they are, how far they have come, what policy says, their windows",
    "credentials": "Credentials: they go in, and never out",
    "images": "Base images: uploads, imports, and what there is",
    "media": "Media: ISOs and disk images, and what a DHCP or TFTP server needs",
    "links": "Links: short, expiring URLs of one medium",
    "bmc": "BMCs and power",
    "tpms": "TPMs: when one may be enrolled, and which is believed to be whose",
    "rollouts": "Roll-outs: a new base image for some hosts at a time",
    "site_keys": "Keys of the site: what hosts and their firmware know it by",
    "secure_boot": "Secure Boot by the site, and signed unified kernel images",
    "operations": "Operations: what takes long, and what has come of it",
    "audit": "The audit log, and what an operator takes as it is",
    "tokens": "Tokens, and who one is",
    "monitoring": "Health, readiness and metrics",
    "webhooks": "Webhooks: whether a receiver hears, and what it is told again",
}
"""Groups of operations, each of the routes of one module, in the order in which people look for them."""
ROLE, WHOLE = "x-role", "x-whole-site"
"""Members of an operation: the least role that may use it, and whether it is for those only who see all hosts."""

_JSON, _SCHEMAS = "application/json", "#/components/schemas/{model}"
_NAMES: dict[str, str | int] = {
    "name": "node1",
    "host": "node1",
    "medium": "iso",
    "operation": "3f9a1c2b7d4e",
    "link": "0f1e2d3c4b5a",
    "number": 1,
}
_NAMES_OF = {"tokens": "rack7", "webhooks": "chat"}
_NAMES_IN = {"/credentials/{name}": "token", "/images/{name}": "base"}
"""Examples of what stands in a path; of `name`, by the group or by what is before it when it is no host's."""


def describe(app: FastAPI) -> dict[str, Any]:
    """The document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        # No route has these as its model: errors.
        problem = ProblemDocument.model_json_schema(ref_template=_SCHEMAS, mode="serialization")
        document["components"]["schemas"] |= {**problem.pop("$defs"), "ProblemDocument": problem}
        # On the Unix socket the kernel says who asks.
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "ticket": {"type": "http", "scheme": "negotiate"},
        }
        document["security"] = [{"token": []}, {"ticket": []}, {}]
        document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
        for route in app.routes:
            if isinstance(route, APIRoute):
                for method in route.methods or ():
                    _complete(document["paths"][route.path][method.lower()], route)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any], route: APIRoute) -> None:
    """Add to an operation what FastAPI does not know of its route."""
    tag = route.endpoint.__module__.rpartition(".")[2]
    take = needed(route)
    operation |= {"tags": [tag], ROLE: take.role.value, WHOLE: take.whole}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            name = parameter["name"]
            inside = next((example for of, example in _NAMES_IN.items() if name == "name" and of in route.path), None)
            parameter["example"] = inside or _example_name(tag, name)
    if _JSON in operation.get("requestBody", {}).get("content", {}):
        operation["responses"] |= {"415": failures(415)[415]}
    if (example := example_of(route.response_model)) is not None:
        answer = operation["responses"][str(route.status_code or 200)]
        answer["content"][_JSON]["example"] = example


def _example_name(tag: str, parameter: str) -> str | int:
    return _NAMES_OF.get(tag, _NAMES[parameter]) if parameter == "name" else _NAMES[parameter]


def example_of(kind: Any) -> Any:
    """An example of an answer's type, as JSON has it: a model's own, in a list when it is one; None without."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        extra: Any = kind.model_config.get("json_schema_extra") or {}
        return next(iter(extra.get("examples", ())), None)
    found = next((example for inner in get_args(kind) if (example := example_of(inner)) is not None), None)
    return [found] if found is not None and getattr(kind, "__origin__", None) is list else found
