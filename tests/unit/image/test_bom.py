"""The bill of materials: valid by the format's own schema, the same for the same image, and nothing invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from provision.image import bom
from tests.helpers.image_samples import file
from tests.unit.image.test_report import made


@pytest.fixture
def report(tmp_path: Path) -> Any:
    return made(tmp_path, file("own", source="recipe"))


def components(report: Any) -> dict[str, Any]:
    return {part["name"]: part for part in json.loads(bom.bom(report))["components"]}


def test_the_schema_takes_it(report: Any) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    text = bom.bom(report)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"SHA-256"', '"SHA-257"')) is not None


def test_packages_and_what_is_our_own(report: Any) -> None:
    found = components(report)
    assert set(found) == {"tiny", "big", "files-of-the-recipe"}
    tiny = found["tiny"]
    assert (tiny["version"], tiny["hashes"]) == ("1:2", [{"alg": "SHA-256", "content": "a" * 64}])
    assert {p["name"]: p["value"] for p in tiny["properties"]} == {"provision:architecture": "amd64"}
    url = PackageURL.from_string(tiny["purl"])
    assert (url.type, url.namespace, url.name, url.version) == ("deb", "debian", "tiny", "1:2")
    assert (url.qualifiers, found["big"]["purl"]) == ({"arch": "amd64"}, "pkg:deb/debian/big@3?arch=all")
    assert [a["purl"] for a in tiny["pedigree"]["ancestors"]] == ["pkg:deb/debian/all@1?arch=source"]
    assert found["files-of-the-recipe"]["description"].startswith("1 files")


def test_licences_are_those_of_the_copyright_file(report: Any) -> None:
    rows = {row["name"]: row for row in report["packages"]}
    rows["tiny"]["licences"] = ["Apache-2", "Apache-2.0", "Expat", "GPL-2+ or Artistic"]
    found = components(report)
    said = [entry["license"] for entry in found["tiny"]["licenses"]]
    assert sorted(map(str, said)) == sorted(
        map(str, [{"id": "Apache-2.0"}, {"id": "MIT"}, {"name": "GPL-2+ or Artistic"}])
    )
    [only] = found["big"]["licenses"]
    assert only == {"license": {"name": "see /usr/share/doc/big/copyright of the package"}}
    assert "licenses" not in found["files-of-the-recipe"]


def test_the_same_image_gives_the_same_bytes(report: Any) -> None:
    text = bom.bom(report)
    again = json.loads(json.dumps(report))
    again["packages"].reverse()
    assert bom.bom(again) == text
    said = json.loads(text)
    assert said["serialNumber"] == f"urn:uuid:{bom.serial('a' * 64)}" == "urn:uuid:25574447-4f70-5864-ac06-61c2cb4e7f6a"
    assert said["metadata"]["timestamp"] == "2020-01-01T00:00:00+00:00"
    assert bom.serial("b" * 64) != bom.serial("a" * 64)
