"""What an operator does with base images: upload, import, list, verify, remove."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from provision.api.images import DamagedImage, Image, ImportOrder, Upload
from provision.api.media import BaseDisk
from provision.api.operations import Operation
from provision.below import discard, join
from provision.errors import Conflict, Invalid, Problem, Problems, ProvisionError, TooLarge, Unavailable
from provision.media.importing import ImportRequest
from provision.media.library import BaseImage
from provision.media.plan import Plan
from provision.media.site_archive import site_archive
from provision.media.unified import UnifiedImages
from provision.principal import Principal, PrincipalRole
from provision.service import standing
from provision.service.core import Core
from provision.service.operations import Operations, Order, Running
from provision.service.site_keys import SiteKeys
from provision.site_key import KeyUse
from provision.store.rollouts import RolloutState

_MAX_UPLOAD = 4 << 30
"""Bytes of one upload: more than any boot loader can put into memory below 4 GiB."""
_RESERVE = 256 << 20
"""Bytes that uploads leave free for the database and the audit log."""
_LOOK_EVERY = 16 << 20
_KEPT_SECONDS = 24 * 60 * 60
"""Of an upload that no import uses; what is being written is new all the time."""


class Images:
    """Base images by name. Content is immutable: importing other content under a name moves the name."""

    def __init__(self, core: Core, operations: Operations) -> None:
        self._core, self._operations = core, operations
        self._uploads = core.settings.state / "tmp"

    async def receive(self, stream: AsyncIterator[bytes]) -> Upload:
        """Write an upload into the state directory (0600) and return its id. It is kept for a day, and swept at the
        next start.

        Raises Invalid for more than 4 GiB, and Unavailable before the disk is so full that the log could not be
        written.
        """
        name = secrets.token_hex(16)
        path = join(self._uploads, name)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                await self._fill(file, stream)
        except OSError as error:
            discard(path)
            raise Unavailable("upload", f"cannot be written ({error.strerror})", "make room and try again") from None
        except BaseException:
            discard(path)
            raise
        return Upload(id=name)

    def forget_old(self) -> None:
        """Delete uploads that nobody has imported for a day."""
        now = self._core.clock().timestamp()
        for path in self._uploads.iterdir():
            with suppress(FileNotFoundError):  # it has just been taken
                if path.is_file() and now - path.stat().st_mtime > _KEPT_SECONDS:
                    discard(path)

    async def _fill(self, file: BinaryIO, stream: AsyncIterator[bytes]) -> None:
        done, looked = 0, -_LOOK_EVERY
        async for chunk in stream:
            done += len(chunk)
            if done > _MAX_UPLOAD:
                raise TooLarge("upload", f"has more than {_MAX_UPLOAD >> 30} GiB", "no boot loader could load it")
            if done - looked >= _LOOK_EVERY:
                looked = done
                if shutil.disk_usage(self._uploads).free < _RESERVE + _LOOK_EVERY:
                    fact = f"less than {_RESERVE >> 20} MiB would stay free on the disk"
                    raise Unavailable("upload", fact, "make room and try again")
            await asyncio.to_thread(file.write, chunk)

    def begin_import(self, name: str, order: ImportOrder, principal: Principal) -> Operation:
        """Begin to import from uploads, which are used up, whatever comes of it. Raises Invalid when one is missing,
        and Conflict while the image of this name is being imported."""
        self._require_uploads(name, order)

        def work(running: Running) -> Image:
            def progress(stage: str, fraction: float) -> None:
                if fraction < 1:  # or else it is there, and ends as if nobody had cancelled it
                    running.progress(stage, fraction)
                    standing.require(self._core.store, principal)

            return self._row(name, self._import(name, order, principal, progress))

        return self._operations.start(Order("import", image=name, role=PrincipalRole.ADMIN, work=True), principal, work)

    def _require_uploads(self, name: str, order: ImportOrder) -> None:
        if missing := [u for u in order.uploads if not join(self._uploads, u).is_file()]:
            raise Invalid(name, f"{len(missing)} of its files were not uploaded", "upload them first")

    def _import(self, name: str, order: ImportOrder, principal: Principal, progress: Any) -> BaseImage:
        try:
            # What the import reads, and what is deleted after it, has a name of the program's own making.
            with tempfile.TemporaryDirectory(prefix="import-", dir=self._uploads) as place:
                request, typed = self._request(name, order, Path(place))
                base = self._build(request, typed, progress)
        except OSError as error:
            raise Unavailable("import", f"its uploads cannot be read ({error.strerror})", "upload them again") from None
        finally:
            for upload in order.uploads:
                discard(join(self._uploads, upload))
        known = self._core.bases().get(name) == base.id and self._core.integrity.is_whole(base.id)
        self._core.integrity.forget(base.id)
        if known:
            return base  # the same again
        try:
            self._name(name, base, principal)
        except ProvisionError:
            if base.id not in self._core.bases().values():
                self._core.library.remove(base.id)
            raise
        self._core.witness()
        return base

    def _name(self, name: str, base: BaseImage, principal: Principal) -> None:
        with self._core.lock:  # with which a roll-out begins
            self._require_no_rollout(name)
            with (
                self._core.act("image-imported", principal, image=name, base=base.id[:16]),
                standing.standing(self._core.store, principal),
            ):
                self._core.store.bases.name(name, base.id)

    def _require_no_rollout(self, name: str) -> None:
        """Raise Conflict while a roll-out moves hosts to this name: what some of them have tried would be another image
        than what the others get."""
        current, there = self._core.store.rollouts.current(), name in self._core.bases()
        if there and current is not None and current.base == name and current.state is not RolloutState.DONE:
            fact = f"a roll-out of it is {current.state}, and hosts that it moved have the present image"
            remedy = "import it under another name, or end the roll-out: 'provision rollout rollback'"
            raise Conflict(f"base image '{name}'", fact, remedy)

    def _build(self, request: ImportRequest, typed: Mapping[str, str], progress: Any) -> BaseImage:
        try:
            return self._core.library.import_base(request, progress)
        except Problems as error:
            problems = (_as_typed(problem, typed) for problem in error.problems)
            raise Problems(problems, f"base image '{request.name}'") from None

    def _request(self, name: str, order: ImportOrder, place: Path) -> tuple[ImportRequest, dict[str, str]]:
        """The request with the uploads moved into `place`, and what the operator calls each path there."""
        self._require_uploads(name, order)
        stored = {upload: join(self._uploads, upload).rename(join(place, upload)) for upload in order.uploads}
        typed = {str(stored[upload]): path for upload, path in order.names.items() if upload in stored}
        loaders = None
        if order.loaders is not None:
            loaders = join(place, "loaders")
            loaders.mkdir(mode=0o700)
            typed[str(loaders)] = "loaders"
            for loader, upload in order.loaders.items():
                file = join(loaders, *loader.split("/"))
                file.parent.mkdir(mode=0o700, exist_ok=True)
                file.hardlink_to(stored[upload])
        seed = {"seed_size": order.seed_size} if order.seed_size is not None else {}
        request = ImportRequest(
            name=name,
            kernel=stored[order.kernel],
            initrds=tuple(stored[upload] for upload in order.initrds),
            kernel_arguments=order.kernel_arguments,
            loaders=loaders,
            parts=order.parts,
            site_archive=self._site_archive() if order.site_keys else b"",
            **seed,
        )
        return request, typed

    def _site_archive(self) -> bytes:
        """By which keys the image is to know this site; a key is made when there is none."""
        return site_archive([key.public for key in SiteKeys(self._core).trusted(KeyUse.SIGNING)], [], [])

    def listing(self) -> list[Image | DamagedImage]:
        """Every name with what it stands for; a damaged image is listed with its problem."""
        rows: list[Image | DamagedImage] = []
        for name, base_id in sorted(self._core.bases().items()):
            try:
                self._core.integrity.require(base_id)
                rows.append(self._row(name, self._core.library.get(base_id)))
            except ProvisionError as error:
                rows.append(DamagedImage(name=name, id=base_id, problem=str(error)))
        return rows

    def begin_verify(self, name: str, principal: Principal) -> Operation:
        """Begin to compare every file of the image with its hash; it ends with Unavailable, which names the one that
        differs. Raises NotFound."""
        base_id = self._core.store.bases.id_of(name)
        order = Order("verify", image=name, work=True, joins=True, version=base_id)
        return self._operations.start(
            order, principal, lambda running: self._row(name, self._core.integrity.verify(base_id, running.progress))
        )

    def disk(self, name: str) -> tuple[Plan, BaseDisk]:
        """The disk of the image, without anything of a host; raises NotFound, and Unavailable when it is damaged."""
        base = self._core.library.get(self._core.store.bases.id_of(name))
        self._core.integrity.require_medium(base, base.disk)
        plan = Plan(base.disk.path, base.disk.sha256, base.disk.size, (), base.disk.sha256)
        return plan, BaseDisk(image=name, sha256=base.disk.sha256, size=base.disk.size, etag=plan.etag)

    def remove(self, name: str, principal: Principal) -> None:
        """Remove the name, and the image when no other name stands for it. Raises Conflict while hosts use it."""
        with self._core.lock:
            self._core.store.bases.require_unused(name)
            base_id = self._core.bases()[name]
            with self._core.act("image-removed", principal, image=name):
                self._core.store.bases.forget(name)
            self._core.witness()
        if base_id not in self._core.bases().values():
            self._core.library.remove(base_id)
            UnifiedImages(self._core.settings.state).remove(base_id)

    def _row(self, name: str, base: BaseImage) -> Image:
        return Image(
            name=name,
            id=base.id,
            kernel=base.kernel_version,
            kernel_arguments=base.kernel_arguments,
            seed_size=base.seed_size,
            signing=base.signing,
            iso_size=base.iso.size,
            disk_size=base.disk.size,
            loaders=tuple(sorted(base.loaders)),
            parts=dict(base.parts) or _files(base),
            revoked=self._core.store.image_versions.is_revoked(base.id),
        )


def _as_typed(problem: Problem, typed: Mapping[str, str]) -> Problem:
    for stored, path in typed.items():
        if problem.file.startswith(stored):
            return replace(problem, file=path + problem.file.removeprefix(stored))
    return problem


def _files(base: BaseImage) -> dict[str, int]:
    """The sizes of the files of an image that came without a report."""
    initrds = {f"initrd {number}": file.size for number, file in enumerate(base.initrds, 1)}
    if len(base.initrds) == 1:
        initrds = {"initrd": base.initrds[0].size}
    return {"kernel": base.kernel.size, **initrds, "boot loaders": sum(file.size for file in base.loaders.values())}
