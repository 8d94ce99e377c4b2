"""The application's description of itself (OpenAPI): what no route's type says, and an example of each answer."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from provision.api.images import Step
from provision.web.operator.request import failures

_JSON, _SCHEMAS = "application/json", "#/components/schemas/{model}"


def describe(app: FastAPI) -> dict[str, Any]:
    """The document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        # No route has these as its model: errors, and the lines of what an import answers, which may have an error.
        step = Step.model_json_schema(ref_template=_SCHEMAS, mode="serialization")
        document["components"]["schemas"] |= {**step.pop("$defs"), "Step": step}
        # On the Unix socket the kernel says who asks.
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}, {}]
        for path in document["paths"].values():
            for operation in path.values():
                if _JSON in operation.get("requestBody", {}).get("content", {}):
                    operation["responses"] |= {"415": failures(415)[415]}
        for route in app.routes:
            if isinstance(route, APIRoute) and (example := example_of(route.response_model)) is not None:
                for method in route.methods or ():
                    answers = document["paths"][route.path][method.lower()]["responses"]
                    answers[str(route.status_code or 200)]["content"][_JSON]["example"] = example
        app.openapi_schema = document
    return app.openapi_schema


def example_of(kind: Any) -> Any:
    """An example of an answer's type, as JSON has it: a model's own, in a list when it is one; None without."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        extra: Any = kind.model_config.get("json_schema_extra") or {}
        return next(iter(extra.get("examples", ())), None)
    found = next((example for inner in get_args(kind) if (example := example_of(inner)) is not None), None)
    return [found] if found is not None and getattr(kind, "__origin__", None) is list else found
