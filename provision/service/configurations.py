"""Boot loaders' configurations for one host and boot; what all hosts of a base image have in common is kept."""

from __future__ import annotations

from functools import lru_cache

from provision import boot_paths
from provision.boot_paths import Initrd, Kernel, SeedFile
from provision.media.library import BaseImage
from provision.policy import HostState
from provision.render import grub, pxelinux
from provision.render.target import BootTarget
from provision.service.media_builder import MediaBuilder

_KEPT = 4096
ENROLL = "provision.enroll"
"""The kernel argument by which a booted host is told where to enrol its TPM."""


class Configurations:
    """Makes them. `revision` is that of the seed that the boot is to read, None for the image alone."""

    def __init__(self, builder: MediaBuilder) -> None:
        self._builder = builder
        self._pxelinux: dict[tuple[str, str, str | None, str, bool], bytes] = {}

    def pxelinux(
        self, state: HostState, base: BaseImage, revision: str | None, server: str, enrols: bool = False
    ) -> bytes:
        """PXELINUX's configuration, whose URLs begin with `server`; the host `enrols` its TPM there."""
        # All that is in it comes of the host (the identity), the base, the boot (the revision), the URL, and whether
        # it enrols. The base may have been imported anew since `state` was looked up: its identity does not say which
        # of the two this is.
        key = state.identity, base.id, revision, server, enrols
        known = self._pxelinux.get(key)
        if known is None:
            known = pxelinux.boot_config(self._target(state, base, revision, server, server if enrols else None))
            if len(self._pxelinux) >= _KEPT:
                self._pxelinux.clear()
            self._pxelinux[key] = known
        return known

    def grub(self, state: HostState, base: BaseImage, revision: str | None, enrols_at: str | None = None) -> bytes:
        """GRUB's configuration, with paths on the server that it came from; the host enrols its TPM at that URL."""
        return grub.network_config(self._target(state, base, revision, "", enrols_at))

    def _target(
        self, state: HostState, base: BaseImage, revision: str | None, server: str, enrols_at: str | None
    ) -> BootTarget:
        enrolling = (f"{ENROLL}={enrols_at}",) if enrols_at else ()
        kernel, initrds = _image(server, base.id, len(base.initrds))
        return BootTarget(
            title=state.host.name,
            kernel=kernel,
            initrds=initrds,
            seed=server + boot_paths.http(SeedFile(revision)) if revision is not None else None,
            arguments=(*self._builder.arguments(state.host, base, seedless=revision is None), *enrolling),
        )


@lru_cache(maxsize=256)
def _image(server: str, base: str, initrds: int) -> tuple[str, tuple[str, ...]]:
    """Where kernel and initrds of a base image are."""
    paths = tuple(server + boot_paths.http(Initrd(base, number)) for number in range(initrds))
    return server + boot_paths.http(Kernel(base)), paths
