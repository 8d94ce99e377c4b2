"""The API's models: as they are when the service writes them, believed in nothing when a client reads them."""

from __future__ import annotations

import importlib
import json
import pkgutil
from base64 import encodebytes
from typing import Any

import pytest
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError

from provision import api
from provision.api.audit import AuditEntry, FieldName
from provision.api.hosts import HostDetail, HostRow
from provision.api.inventory import Discrepancy, File
from provision.api.media import MediumDescription
from provision.api.problem import ProblemDocument
from provision.api.status import Explanation, Status
from provision.api.wire import RECEIVED, Answer
from provision.errors import Denied, Invalid, Problem, Problems
from provision.store.fields import FIELDS

ESCAPES = "a\x1b]0;owned\x07\x9b1m\u202e\r\b\x7f\u2028  b\n"
MODULES = [importlib.import_module(f"provision.api.{found.name}") for found in pkgutil.iter_modules(api.__path__)]
MODELS = sorted(
    {
        model
        for module in MODULES
        for model in vars(module).values()
        if isinstance(model, type)
        and issubclass(model, BaseModel)
        and model.__module__ == module.__name__
        and "[" not in model.__name__
    },
    key=lambda model: model.__name__,
)
EXEMPLARY = [model for model in MODELS if "json_schema_extra" in model.model_config]


def received(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind).validate_json(json.dumps(value), strict=True, context=RECEIVED)


@pytest.mark.parametrize("model", EXEMPLARY, ids=lambda model: model.__name__)
def test_every_example_is_one_and_comes_back_as_it_was(model: Any) -> None:
    for example in model.model_config["json_schema_extra"]["examples"]:
        found = received(model, example)
        assert found.model_dump(mode="json", by_alias=True, exclude_unset=True) == example


def test_most_models_have_examples() -> None:
    assert len(EXEMPLARY) > 20 and {HostRow, HostDetail, Status, AuditEntry, ProblemDocument} <= set(EXEMPLARY)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_model_repeats_what_it_refused(model: Any) -> None:
    assert model.model_config.get("hide_input_in_errors")
    if not issubclass(model, RootModel):
        assert model.model_config.get("extra") == ("ignore" if issubclass(model, Answer) else "forbid")


def test_text_is_harmless_when_it_was_received_and_itself_when_it_was_written() -> None:
    fields = {"subject": ESCAPES, "fact": "x" * 100_000, "remedy": "  two   words "}
    written = Discrepancy(**fields)
    assert (written.subject, written.remedy) == (ESCAPES, "  two   words ")
    assert written.model_dump() == fields
    found = received(Discrepancy, fields)
    assert found.subject == "a?]0;owned??1m? ?? b"
    assert (len(found.fact), found.remedy) == (64 << 10, "two words")


def test_text_is_harmless_wherever_it_stands() -> None:
    entry = received(AuditEntry, {"seq": 1, "reason": ESCAPES})
    assert entry.get("seq") == 1 and str(entry.get("reason")).isprintable() and entry.get("host") is None
    problem = {"file": ESCAPES, "line": 1, "path": ESCAPES, "fact": ESCAPES}
    document = received(ProblemDocument, {"subject": ESCAPES, "problems": [problem]})
    assert document.subject.isprintable() and all(row.fact.isprintable() for row in document.problems)
    row = {"medium": "iso", "channel": ESCAPES, "allowed": True}
    assert received(Explanation, row).channel.isprintable()


MEDIUM = {"host": "node1", "medium": "iso", "format": "raw", "sha256": "a" * 64, "size": 10, "etag": '"a"'}


@pytest.mark.parametrize(
    "change",
    [
        *({"size": size} for size in (-1, 1 << 41, "10", 1.5, None, True)),
        *({"host": name} for name in ("../x", "Node1", "", "a" * 64, "a\n", 1)),
        *({"etag": tag} for tag in ("a", '"a', '""', '"a\r\nX: y"', f'"{"a" * 201}"', 'W/"a"')),
        *({"sha256": digest} for digest in ("a" * 63, "A" * 64, "../" * 21 + "a")),
        {"medium": "floppy"},
    ],
    ids=lambda change: ascii(change)[:40],
)
def test_what_is_no_such_value_is_refused(change: dict[str, Any]) -> None:
    assert received(MediumDescription, MEDIUM).size == 10
    with pytest.raises(ValidationError):
        received(MediumDescription, MEDIUM | change)


def test_a_client_leaves_out_what_it_does_not_know() -> None:
    assert received(MediumDescription, MEDIUM | {"new": {"a": 1}}) == received(MediumDescription, MEDIUM)


def test_bytes_are_one_line_of_base64_and_taken_with_line_ends() -> None:
    data = bytes(range(256))
    file = File.model_construct(name="x", text=data, attachments={})
    text = json.loads(file.model_dump_json())["text"]
    assert "\n" not in text and File.model_validate(json.loads(file.model_dump_json())).text == data
    assert File.model_validate({"name": "x", "text": encodebytes(data).decode()}).text == data


def test_every_field_of_the_audit_log_may_be_told() -> None:
    names = TypeAdapter(FieldName)
    assert [names.validate_python(name) for name in (*FIELDS, "seq", "generation")]
    with pytest.raises(ValidationError):
        received(AuditEntry, {"a\x1b": 1})
    with pytest.raises(ValidationError):
        received(AuditEntry, {"reason": ["x"]})


def test_an_error_is_its_document() -> None:
    denied = Denied("node1", "no", "ask", "operator-only")
    document = ProblemDocument.of(denied)
    assert document.model_dump(mode="json", exclude_unset=True) == denied.details()
    two = Problems([Problem("a", 1, "b", "c"), Problem("a", 2, "d", "e", "f")])
    assert ProblemDocument.of(two).model_dump(mode="json", exclude_unset=True) == two.details()
    assert ProblemDocument.of(Invalid("a", "b")).problems is None
