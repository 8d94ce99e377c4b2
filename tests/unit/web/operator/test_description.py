"""The description of the operator's API: stable operation ids, typed answers, errors, and examples that are right."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter

from provision.api.problem import MEDIA_TYPE, ProblemDocument
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.site_fixture import Site, request

NOTHING: Any = None
JSON = "application/json"
_MADE = operator_app.create(NOTHING, by_peer_credentials).app
assert isinstance(_MADE, FastAPI)
APP = _MADE
ROUTES = [route for route in APP.routes if isinstance(route, APIRoute)]
OPERATIONS = {
    *("accept_clock", "accept_store", "apply_inventory", "check_inventory", "close_window", "describe_medium"),
    *("download_medium", "explain", "get_dhcp", "get_health", "get_host", "get_inventory", "get_status", "get_tree"),
    *("head_medium", "import_image", "list_audit", "list_credentials", "list_hosts", "list_images", "load_credentials"),
    *("list_links", "make_link", "revoke_link"),
    *("open_window", "remove_credential", "remove_image", "set_credential", "upload", "verify_audit", "verify_image"),
    *("create_token", "get_principal", "list_tokens", "revoke_token", "get_metrics", "get_ready"),
    *("set_bmc", "get_bmc", "remove_bmc", "check_bmc", "get_power", "change_power", "boot_host"),
    *("list_operations", "get_operation", "cancel_operation", "compute_sha256"),
    *("decommission", "reprovision", "retry_update", "move_host"),
    *("declare_compromised", "replace_mac", "check_webhook", "replay_webhook"),
    *("download_disk_patch", "download_base_disk", "describe_base_disk"),
    *(
        "open_enrolment",
        "close_enrolment",
        "list_tpms",
        "import_tpms",
        "get_tpm",
        "remove_tpm",
        "accept_tpm",
        "reject_tpm",
        "explain_tpm",
        "revoke_image",
    ),
    *("start_rollout", "get_rollout", "pause_rollout", "continue_rollout", "roll_back"),
    *("list_site_keys", "roll_site_key", "retire_site_key"),
    *("make_secure_boot_key", "request_signature", "sign_unified_image", "list_unified_images", "make_enrolment"),
    *("download_unified_iso", "describe_unified_iso"),
}
"""What clients are generated with; one that is renamed breaks them."""
OTHER_TYPES = {
    "download_medium": "application/octet-stream",
    "head_medium": "application/octet-stream",
    "download_disk_patch": "application/octet-stream",
    "download_base_disk": "application/octet-stream",
    "download_unified_iso": "application/octet-stream",
    "get_dhcp": "text/plain",
    "get_metrics": "text/plain",
    "get_tree": "application/x-tar",
}
"""Operations whose answers are no JSON document."""


def operation(route: APIRoute) -> dict[str, Any]:
    [method] = list(route.methods or ())
    found: dict[str, Any] = APP.openapi()["paths"][route.path][method.lower()]
    return found


def models(kind: Any) -> list[Any]:
    """The types that an annotation is made of, without lists and unions."""
    return [model for inner in get_args(kind) for model in models(inner)] if get_origin(kind) else [kind]


def strict(kind: Any, example: Any) -> None:
    TypeAdapter(kind).validate_json(json.dumps(example), strict=True)


def test_operation_ids_are_unique_and_stay() -> None:
    ids = [item["operationId"] for path in APP.openapi()["paths"].values() for item in path.values()]
    assert len(ids) == len(set(ids)) == len(ROUTES)
    assert set(ids) == OPERATIONS


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_operation_has_a_typed_answer_with_an_example(route: APIRoute) -> None:
    described = operation(route)["responses"]
    assert operation(route)["description"]
    if route.status_code == 204:
        assert "content" not in described["204"]
    elif kind := OTHER_TYPES.get(route.name):
        answer = described["200"]["content"]
        assert set(answer) == {kind} and answer[kind]["schema"]
    else:
        assert all(issubclass(model, BaseModel) for model in models(route.response_model)), route.response_model
        content = described[str(route.status_code or 200)]["content"]
        assert set(content) == {"application/json"}
        strict(route.response_model, content["application/json"]["example"])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_operation_has_its_errors_with_examples(route: APIRoute) -> None:
    errors = {status: answer for status, answer in operation(route)["responses"].items() if status >= "400"}
    assert {"401", "403", "422", "429", "500", "503"} <= set(errors)
    for status, answer in errors.items():
        assert set(answer["content"]) == {MEDIA_TYPE}
        example = answer["content"][MEDIA_TYPE]["example"]
        strict(ProblemDocument, example)
        assert example["status"] == int(status) and example["type"] == f"about:blank#{example['title']}"
        assert answer["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/ProblemDocument"}


@pytest.mark.parametrize("route", [r for r in ROUTES if r.body_field], ids=lambda route: route.name)
def test_every_body_has_an_example_that_is_taken(route: APIRoute) -> None:
    assert route.body_field is not None
    for model in models(route.body_field.field_info.annotation):
        examples = model.model_config["json_schema_extra"]["examples"]
        assert examples
        for example in examples:
            model.model_validate(example)


def bodies(schema: dict[str, Any]) -> list[Any]:
    """The examples of a request's body, as the document has them."""
    if "$ref" in schema:
        found: list[Any] = APP.openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["examples"]
        return found
    if schema.get("type") == "array":
        return [[example] for example in bodies(schema["items"])]
    return [example for one in schema["anyOf"] for example in (bodies(one) if "$ref" in one else [])]


LAST = ("/move", "/decommission", "/replace-mac", "/compromised", "/hosts/{name}/bmc")
"""What changes the host for those behind it; no BMC is there to be asked."""
LACKING = {"import_image", "import_tpms"}
"""What takes more than one request shows: uploaded files, and a list that is no JSON."""


def test_every_example_is_answered_as_described(here: Site) -> None:
    """Each request as the document shows it, to a site that has not all of what they name."""
    app, statuses = operator_app.create(here.service, by_peer_credentials), set[int]()
    for route in sorted(ROUTES, key=lambda route: ("DELETE" in (route.methods or ()), route.path.endswith(LAST))):
        described, path = operation(route), route.path
        for parameter in described.get("parameters", ()):
            path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example")))
        content = described.get("requestBody", {}).get("content", {})
        kind = next(iter(content), "")
        shown = (
            [json.dumps(one).encode() for one in bodies(content[kind]["schema"])]
            if kind == JSON
            else [b"x" if kind else b""]
        )
        for body in shown:
            headers = {"content-type": kind} if kind else {}
            reply = request(app, next(iter(route.methods or ())), path, headers=headers, body=body, peer="uid=0")
            assert str(reply.status) in described["responses"], (route.name, reply)
            assert (reply.status == 422) == (route.name in LACKING), (route.name, reply.body)
            if reply.status < 300 and reply.headers.get("content-type") == JSON and reply.body:
                TypeAdapter(route.response_model).validate_json(reply.body, strict=True)
            statuses.add(reply.status)
    assert statuses == {200, 202, 204, 404, 409, 422}


def test_every_reference_leads_somewhere() -> None:
    document = APP.openapi()
    text = json.dumps(document)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"]) and "HTTPValidationError" not in named
    assert "$defs" not in text
