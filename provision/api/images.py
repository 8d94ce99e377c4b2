"""Base images: uploads, imports, and what there is."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from provision.api.wire import Answer, Line, Size, examples
from provision.model import ContentId, LoaderName, Model, Name, TypedPath, UploadId

PartName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}$")]
"""What a part of an image is called in its own report."""
Parts = Annotated[dict[PartName, Size], Field(max_length=64)]
"""The bytes of each part of an image."""


class Upload(Answer):
    """An upload's id, good for one import."""

    model_config = examples({"id": "0" * 32})

    id: UploadId


class ImportOrder(Model):
    """A base image from uploads, by their ids. `names` has the path of each as it was typed, `parts` the bytes of each
    part of the image, by its own report. With `site_keys`, the image is told by which keys to know this site."""

    model_config = examples(
        {"names": {"0" * 32: "vmlinuz"}, "kernel": "0" * 32, "initrds": ["1" * 32], "kernel_arguments": ["quiet"]}
    )

    names: dict[UploadId, TypedPath] = Field(default={}, max_length=1024)
    kernel: UploadId
    initrds: tuple[UploadId, ...] = Field(max_length=64)
    kernel_arguments: tuple[Annotated[str, Field(max_length=4096)], ...] = Field(default=(), max_length=1024)
    loaders: dict[LoaderName, UploadId] | None = Field(default=None, max_length=1024)
    seed_size: int | None = None
    parts: Parts = {}
    site_keys: bool = False

    @property
    def uploads(self) -> tuple[str, ...]:
        """Every upload once."""
        return tuple(dict.fromkeys((self.kernel, *self.initrds, *(self.loaders or {}).values())))

    @model_validator(mode="after")
    def _each_file_has_its_place(self) -> Self:
        names = self.loaders or {}
        if any(name.partition("/")[0] in names for name in names if "/" in name):
            raise ValueError("a loader's file is another one's directory")
        return self


class Image(Answer):
    """A base image under one of its names; sizes in bytes. `parts` is where the size goes: by the image's own report,
    or else by its files. When it is `revoked`, no host that boots it opens an envelope."""

    model_config = examples(
        {
            "name": "base",
            "id": "a" * 64,
            "kernel": "6.1.0-18-amd64",
            "kernel_arguments": ["console=ttyS0"],
            "seed_size": 4194304,
            "signing": "Debian's",
            "iso_size": 67108864,
            "disk_size": 134217728,
            "loaders": ["grubx64.efi", "ldlinux.c32", "lpxelinux.0", "shimx64.efi"],
            "parts": {"kernel": 8388608, "initrd": 41943040, "boot loaders": 3145728},
            "revoked": False,
        }
    )

    name: Name
    id: ContentId
    kernel: Line
    kernel_arguments: tuple[Line, ...]
    seed_size: Size
    signing: Line
    iso_size: Size
    disk_size: Size
    loaders: tuple[LoaderName, ...]
    parts: dict[Line, Size] = {}
    revoked: bool


class DamagedImage(Answer):
    """A base image that is not as it was imported, and what is wrong with it."""

    name: Name
    id: ContentId
    problem: Line
