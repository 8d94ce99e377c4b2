"""Media that are downloaded."""

from __future__ import annotations

from typing import Literal

from provision.api.wire import Answer, ETag, Line, Size, examples
from provision.boot import DiskFormat, Medium
from provision.model import ContentId, Mac, Name


class MediumDescription(Answer):
    """A host's medium: its SHA-256, its size in bytes and its entity tag; `format` is of disks."""

    model_config = examples(
        {
            "host": "node1",
            "medium": "iso",
            "format": "raw",
            "sha256": "a" * 64,
            "size": 67108864,
            "etag": '"0123456789abcdef"',
        }
    )

    host: Name
    medium: Medium
    format: DiskFormat = DiskFormat.RAW
    sha256: ContentId
    size: Size
    etag: ETag


class BaseDisk(Answer):
    """The disk of a base image, which is nobody's: its SHA-256, its size in bytes and its entity tag."""

    model_config = examples({"image": "debian-12", "sha256": "a" * 64, "size": 67108864, "etag": '"0123456789abcdef"'})

    image: Name
    sha256: ContentId
    size: Size
    etag: ETag


class BatchRow(Answer):
    """What became of one host in a batch of media; every member stands in the manifest.

    `file` is the name of the medium in the manifest's directory, `size` its bytes; both and `sha256` are null when the
    host was denied its medium, and `reason` is null when it was not.
    """

    model_config = examples(
        {
            "host": "node1",
            "medium": "iso",
            "macs": ["52:54:00:00:00:01"],
            "decision": "released",
            "file": "node1.iso",
            "sha256": "a" * 64,
            "size": 67108864,
            "reason": None,
        }
    )

    host: Name
    medium: Medium
    macs: tuple[Mac, ...]
    decision: Literal["released", "denied"]
    file: str | None = None
    sha256: ContentId | None = None
    size: Size | None = None
    reason: Line | None = None


class Manifest(Answer):
    """The manifest of a batch: a row for each host, sorted by name."""

    format: Literal[1]
    hosts: tuple[BatchRow, ...]
