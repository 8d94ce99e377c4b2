"""Boot media as patch plans over a base that is built once."""

from provision.media.base import BaseImage
from provision.media.importing import ImportRequest
from provision.media.layout import FileEntry, MediumLayout, medium_plan
from provision.media.library import Library
from provision.media.plan import Patch, Plan, Slot
from provision.media.reader import Reader

__all__ = [
    "BaseImage",
    "FileEntry",
    "ImportRequest",
    "Library",
    "MediumLayout",
    "Patch",
    "Plan",
    "Reader",
    "Slot",
    "medium_plan",
]
