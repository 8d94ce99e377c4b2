"""The API's description as a page: every operation, whole, and for nobody who is not known."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from typing import Any

import pytest

from provision.principal import PrincipalRole
from provision.web.operator import app as operator_app
from provision.web.pages.docs import groups_of, kind_of
from tests.helpers.browser import Browser, logged_in, pages_of
from tests.helpers.site_fixture import Site

_NOTHING: Any = None
DOCUMENT = operator_app.description(_NOTHING)
GROUPS = groups_of(DOCUMENT)
OPERATIONS = [operation for group in GROUPS for operation in group.operations]


def test_every_operation_is_on_the_page_with_all_that_it_has(here: Site) -> None:
    text = unescape(logged_in(here, PrincipalRole.READER).get("/docs").body.decode())
    ids = [item["operationId"] for path in DOCUMENT["paths"].values() for item in path.values()]
    assert sorted(ids) == sorted(re.findall(r'<details id="([a-z0-9_]+)">', text))
    for operation in OPERATIONS:
        (shown,) = re.findall(rf'<details id="{operation.id}">(.*?)</details>', text, re.DOTALL)
        assert f"<strong>{operation.method}</strong> <code>{operation.path}</code>" in shown
        above = "" if operation.role == PrincipalRole.ADMIN else " or higher"
        assert re.search(rf"Role: {operation.role}{above}[.,]", shown) and operation.curl in shown
        assert ("a token without a selector" in shown) is operation.whole
        described = DOCUMENT["paths"][operation.path][operation.method.lower()]
        assert all(f"{status} (" in shown for status in described["responses"])
        assert all(f'<th scope="row">{one["name"]}</th>' in shown for one in described.get("parameters", ()))


def test_every_group_has_operations_and_every_link_leads_somewhere(here: Site) -> None:
    assert all(group.operations for group in GROUPS)
    text = logged_in(here).get("/docs").body.decode()
    assert set(re.findall(r'href="#([a-z_]+)"', text)) - {"main"} == {group.name for group in GROUPS}
    assert "node1" in text and "`" not in text and "<code>dry_run</code>" in text
    assert "<script" not in text.replace('<script src="/static/live.', "") and "style=" not in text


def test_the_document_is_the_one_that_programs_get(here: Site) -> None:
    found = json.loads(logged_in(here).get("/docs/api.json").body)
    assert found == json.loads(json.dumps(DOCUMENT))
    assert logged_in(here, name="two").get("/hosts").body.decode().count('<a href="/docs">API</a>') == 1


@pytest.mark.parametrize("path", ["/docs", "/docs/api.json"])
def test_nobody_reads_it_who_is_not_known(here: Site, path: str) -> None:
    reply = Browser(pages_of(here)).get(path)
    assert reply.status == 303 and reply.body == b""


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.id)
def test_every_command_line_is_one(operation: Any) -> None:
    words = shlex.split(operation.curl)
    assert words[0] == "curl" and words[-1].startswith("https://$SERVER/v1/") and "{" not in words[-1]
    assert ("--request" in words and words[words.index("--request") + 1] == operation.method) or (
        operation.method in ("GET", "HEAD")
    )
    assert ("--data-binary" in words) is bool(operation.body or "octet-stream" in operation.curl)
    assert "provision_" not in operation.curl


def test_values_are_told_in_words() -> None:
    schemas = {"Role": {"enum": ["reader", "admin"], "type": "string"}}
    assert kind_of({"$ref": "#/components/schemas/Role"}, schemas) == "one of reader, admin"
    assert kind_of({"type": "integer", "minimum": 1, "maximum": 9, "default": 5}, {}) == (
        "integer, at least 1, at most 9, 5 without it"
    )
    nullable = {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}
    assert kind_of(nullable, {}) == "string, at most 3 characters"
    assert kind_of({"type": "array", "items": {"type": "string"}}, {}) == "array, of string"
