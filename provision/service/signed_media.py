"""What a host with `chain: uki` gets as a file: the signed image as an ISO or a disk, the same for all hosts. It has no
secret; what is the host's own, that fetches."""

from __future__ import annotations

from provision.boot import Kind, Medium
from provision.errors import Conflict, NotFound, Unavailable
from provision.host import Host
from provision.media.layout import FileEntry, MediumLayout
from provision.media.plan import Plan
from provision.media.unified import UnifiedImage, UnifiedImages
from provision.service.core import Core


class SignedMedia:
    """The media of the signed images. Raise NotFound while nobody has signed one of the host's base image."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.images = UnifiedImages(core.settings.state)
        core.payloads.is_signed = self._is_signed

    def _is_signed(self, host: Host) -> bool:
        try:
            base = self._core.base_of(host)
        except (Conflict, NotFound, Unavailable):
            return True  # the base image is what is missing
        return self.images.get(base.id) is not None

    def image(self, host: Host) -> UnifiedImage:
        """The signed image of the host's base image."""
        found = self.images.get(self._core.base_of(host).id)
        if found is None:
            name = self._core.store.snapshot.base_name(host)
            raise NotFound(host.name, f"there is no signed image of '{name}'", f"sign it: 'provision sb sign {name}'")
        return found

    def revision(self, host: Host) -> str:
        """What a link to such a medium is pinned to: the image."""
        return self.image(host).file.sha256

    def plan(self, host: Host, kind: Kind) -> Plan:
        """The medium, which is built when it is asked for first. Raises Unavailable, too."""
        image = self.image(host)
        entry = self.images.medium(image, kind)
        return Plan(entry.path, entry.sha256, entry.size, (), image.file.sha256)

    def slot(self, host: Host) -> FileEntry:
        """What an update writes into a slot of the host's disk. Raises Unavailable, too."""
        return self.images.slot(self.image(host))

    def layout(self, host: Host, medium: Medium) -> MediumLayout:
        """The same, as what is followed while it is read."""
        entry = self.images.medium(self.image(host), Kind(medium))
        return MediumLayout(entry.path, entry.size, entry.sha256, {})
