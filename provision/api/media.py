"""Media that are downloaded."""

from __future__ import annotations

from provision.api.wire import Answer, ETag, Size, examples
from provision.boot import Medium
from provision.model import ContentId, Name


class MediumDescription(Answer):
    """A host's medium: its SHA-256, its size in bytes and its entity tag."""

    model_config = examples(
        {"host": "node1", "medium": "iso", "sha256": "a" * 64, "size": 67108864, "etag": '"0123456789abcdef"'}
    )

    host: Name
    medium: Medium
    sha256: ContentId
    size: Size
    etag: ETag
