"""The wire format of all structures of TPM 2.0 (TCG TPM 2.0 Library, Part 2): big-endian, buffers with lengths."""

from __future__ import annotations

from provision.errors import Invalid

_REMEDY = "send it as the TPM gave it"


def sized(data: bytes) -> bytes:
    """A TPM2B: the bytes behind their length in 16 bits."""
    return len(data).to_bytes(2, "big") + data


def u8(value: int) -> bytes:
    """A UINT8."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """A UINT16."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """A UINT32."""
    return value.to_bytes(4, "big")


class Reader:
    """Reads the fields of one structure, which `subject` names in errors. Every method raises Invalid at its end."""

    def __init__(self, data: bytes, subject: str) -> None:
        self._data, self._subject, self._at = data, subject, 0

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if len(self._data) - self._at < size:
            raise self.wrong(f"ends at byte {len(self._data)}, in the middle of a field")
        self._at += size
        return self._data[self._at - size : self._at]

    def u8(self) -> int:
        """A UINT8."""
        return self.take(1)[0]

    def u16(self) -> int:
        """A UINT16."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """A UINT32."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """A UINT64."""
        return int.from_bytes(self.take(8), "big")

    def sized(self) -> bytes:
        """A TPM2B, without its length."""
        return self.take(self.u16())

    def end(self) -> None:
        """Nothing is left."""
        if left := len(self._data) - self._at:
            raise self.wrong(f"has {left} bytes too many")

    def wrong(self, fact: str) -> Invalid:
        """What to raise for the structure."""
        return Invalid(self._subject, fact, _REMEDY)
