"""What an operator does with base images: upload, import, list, verify, remove."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from provision.errors import Invalid, NotFound, Problem, Problems, ProvisionError, Unavailable
from provision.media.library import BaseImage, ImportRequest
from provision.service.core import Core

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_LOADER = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Images:
    """Base images by name. Content is immutable: importing other content under a name moves the name."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._uploads = core.settings.state / "tmp"

    async def receive(self, stream: AsyncIterator[bytes]) -> str:
        """Write an upload into the state directory (0600) and return its id. It is swept at the next start."""
        name = secrets.token_hex(16)
        path = self._uploads / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                async for chunk in stream:
                    await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise Unavailable(str(path), f"cannot be written ({error.strerror})", "make room and try again") from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return name

    async def import_steps(self, name: str, body: Mapping[str, Any], actor: str) -> AsyncIterator[bytes]:
        """Import; yields a JSON line for each step and at last one with `image` or `problem`."""
        queue: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def progress(stage: str, fraction: float) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, (stage, fraction))

        task = asyncio.create_task(asyncio.to_thread(self._import, name, body, actor, progress))
        while not task.done() or not queue.empty():
            try:
                stage, fraction = await asyncio.wait_for(queue.get(), 0.2)
            except TimeoutError:
                continue
            yield _line({"stage": stage, "fraction": round(fraction, 4)})
        try:
            yield _line({"image": _image(name, task.result())})
        except ProvisionError as error:
            yield _line({"problem": error.details()})

    def _import(self, name: str, body: Mapping[str, Any], actor: str, progress: Any) -> BaseImage:
        uploads = [body["kernel"], *body["initrds"], *(body["loaders"] or {}).values()]
        try:
            if not _NAME.fullmatch(name):
                raise Invalid(name[:63], "is not a name of lower-case letters, digits and dashes", "choose another")
            if missing := [u for u in uploads if not _UPLOAD.fullmatch(u) or not (self._uploads / u).is_file()]:
                raise Invalid(name, f"{len(missing)} of its files were not uploaded", "upload them first")
            base = self._build(name, body, progress)
            self._core.scrub.forget(base.id)
            with self._core.act("image-imported", actor, image=name, base=base.id[:16]):
                self._core.store.name_base(name, base.id)
            self._core.witness()
            return base
        finally:
            for upload in filter(_UPLOAD.fullmatch, uploads):
                (self._uploads / upload).unlink(missing_ok=True)
            if body["loaders"] is not None:
                shutil.rmtree(self._loaders(body), ignore_errors=True)

    def _build(self, name: str, body: Mapping[str, Any], progress: Any) -> BaseImage:
        try:
            return self._core.library.import_base(self._request(name, body), progress)
        except Problems as error:
            # The operator knows the files by the paths that were typed, not by where the uploads lie.
            typed = {str(self._uploads / upload): path for upload, path in body["names"].items()}
            typed[str(self._loaders(body))] = "loaders"
            raise Problems((_as_typed(problem, typed) for problem in error.problems), f"base image '{name}'") from None

    def _loaders(self, body: Mapping[str, Any]) -> Path:
        return self._uploads / f"loaders-{body['kernel']}"

    def _request(self, name: str, body: Mapping[str, Any]) -> ImportRequest:
        loaders = None
        if body["loaders"] is not None:
            loaders = self._loaders(body)
            loaders.mkdir(mode=0o700)
            for loader, upload in body["loaders"].items():
                if not _LOADER.fullmatch(loader):
                    raise Invalid(f"{name}: {loader[:64]}", "is not a plain file name", "rename it")
                (loaders / loader).parent.mkdir(mode=0o700, exist_ok=True)
                (self._uploads / upload).rename(loaders / loader)
        seed = {"seed_size": body["seed_size"]} if body["seed_size"] is not None else {}
        return ImportRequest(
            name=name,
            kernel=self._uploads / body["kernel"],
            initrds=tuple(self._uploads / u for u in body["initrds"]),
            kernel_arguments=tuple(body["kernel_arguments"]),
            loaders=loaders,
            **seed,
        )

    def listing(self) -> list[dict[str, Any]]:
        """Every name with what it stands for; a damaged image is listed with its problem."""
        rows = []
        for name, base_id in sorted(self._core.bases().items()):
            try:
                self._core.scrub.require(base_id)
                rows.append(_image(name, self._core.library.get(base_id)))
            except ProvisionError as error:
                rows.append({"name": name, "id": base_id, "problem": str(error)})
        return rows

    def verify(self, name: str) -> dict[str, Any]:
        """Compare every file of the image with its hash; raises Unavailable naming the one that differs."""
        base_id = self._core.bases().get(name)
        if base_id is None:
            raise NotFound(name, "no base image of this name is imported", "see 'provision image list'")
        return _image(name, self._core.scrub.verify(base_id))

    def remove(self, name: str, actor: str) -> None:
        """Remove the name, and the image when no other name stands for it. Raises Conflict while hosts use it."""
        with self._core.lock:
            self._core.store.require_unused(name)
            base_id = self._core.bases()[name]
            with self._core.act("image-removed", actor, image=name):
                self._core.store.forget_base(name)
            self._core.witness()
        if base_id not in self._core.bases().values():
            self._core.library.remove(base_id)


def _as_typed(problem: Problem, typed: Mapping[str, str]) -> Problem:
    for stored, path in typed.items():
        if problem.file.startswith(stored):
            return replace(problem, file=path + problem.file.removeprefix(stored))
    return problem


def _image(name: str, base: BaseImage) -> dict[str, Any]:
    return {
        "name": name,
        "id": base.id,
        "kernel": base.kernel_version,
        "kernel_arguments": list(base.kernel_arguments),
        "seed_size": base.seed_size,
        "signing": base.signing,
        "iso_size": base.iso.size,
        "disk_size": base.disk.size,
        "loaders": sorted(base.loaders),
    }


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
