"""The bill of materials: what an image is made of, for programs that look for licences and known weaknesses.

CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/), made from the report: the same report gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from provision.image.assemble import CLOCK
from provision.image.licences import spdx
from provision.image.tree import OWN

FILE = "bom.cdx.json"
_OWN_FILES = "files-of-the-recipe"


def bom(report: Mapping[str, Any]) -> str:
    """The bill of materials of an image, from its report as `report.report` makes it."""
    image = report["image"]
    whole = Component(
        name=image["name"],
        version=image["version"],
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="image",
        properties=[
            Property(name="provision:image-id", value=image["id"]),
            *(Property(name=f"provision:sha256:{n}", value=f["sha256"]) for n, f in sorted(image["files"].items())),
        ],
    )
    parts = [_own(row, image) if row["name"] == OWN else _package(row) for row in report["packages"]]
    made = Bom(
        serial_number=serial(image["id"]),
        # The format's library always writes a time; it is the one of everything in an image.
        metadata=BomMetaData(component=whole, timestamp=datetime.fromtimestamp(CLOCK, UTC)),
        components=parts,
    )
    made.register_dependency(whole, parts)
    return JsonV1Dot6(made).output_as_string(indent=1) + "\n"


def serial(image_id: str) -> UUID:
    """The serial number of the bill of the image with that id."""
    return uuid5(NAMESPACE_URL, f"urn:sha256:{image_id}")


def _package(row: Mapping[str, Any]) -> Component:
    name, version, source = row["name"], row["version"], row["source"]
    origin = Component(name=source["name"], version=source["version"], purl=_purl(**source, arch="source"))
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"deb:{name}",
        purl=_purl(name, version, row["architecture"]),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=row["sha256"])],
        licenses=_licences(row),
        pedigree=Pedigree(ancestors=[origin]),
        properties=[Property(name="provision:architecture", value=row["architecture"])],
    )


def _licences(row: Mapping[str, Any]) -> list[DisjunctiveLicense]:
    """One by one, as the format's expressions would claim more than the copyright file says."""
    if row["licences"] is None:
        return [DisjunctiveLicense(name=f"see /usr/share/doc/{row['name']}/copyright of the package")]
    # Two names may mean one licence, of which the format takes one.
    known = {id_: DisjunctiveLicense(id=id_) for name in row["licences"] if (id_ := spdx(name))}
    named = [DisjunctiveLicense(name=name) for name in row["licences"] if not spdx(name)]
    return [*known.values(), *named]


def _own(row: Mapping[str, Any], image: Mapping[str, Any]) -> Component:
    return Component(
        name=_OWN_FILES,
        version=image["version"],
        type=ComponentType.FILE,
        bom_ref=_OWN_FILES,
        description=f"{row['files']} files that the recipe brings or the build makes",
    )


def _purl(name: str, version: str, arch: str) -> PackageURL:
    return PackageURL(type="deb", namespace="debian", name=name, version=version, qualifiers={"arch": arch})
