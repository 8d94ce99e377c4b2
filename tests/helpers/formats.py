"""A sample base whose disk there is in every format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from provision.boot import DiskFormat
from provision.media.base import FORMATS, RECORD, BaseImage, hash_file, load, record
from provision.media.layout import MediumLayout
from provision.media.qcow2 import build_qcow2
from provision.media.raw_zst import build_raw_zst
from tests.helpers.site_fixture import touch


def add_formats(state: Path) -> BaseImage:
    """Give the one base below `state` the formats that an import makes; no service has it open."""
    (directory,) = (path.parent for path in (state / "bases").glob(f"*/{RECORD}"))
    base = load(directory)
    qcow2, packed, scratch = (directory / name for name in (*FORMATS.values(), "scratch"))
    scratch.mkdir()
    slots = {DiskFormat.QCOW2: build_qcow2(base.disk.path, base.disk.slots, qcow2)}
    slots[DiskFormat.RAW_ZST] = build_raw_zst(base.disk.path, base.disk.slots, packed, scratch)
    scratch.rmdir()
    formats = {}
    for format_, path in ((DiskFormat.QCOW2, qcow2), (DiskFormat.RAW_ZST, packed)):
        formats[format_] = MediumLayout(path, path.stat().st_size, hash_file(path), slots[format_])
        touch(path)
    (directory / RECORD).write_bytes(record(replace(base, formats=formats)))
    return load(directory)
