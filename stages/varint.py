"""Whole numbers in as few bytes as they need: seven bits a byte, lowest first."""

from headstart.stages.errors import ProtocolViolation

__all__ = ["MAX_VARINT_BYTES", "pull_varint", "put_varint", "varint_bytes"]

MAX_VARINT_BYTES = 9
"""Of a number below 2**63."""


def put_varint(value: int) -> bytes:
    """Encode a whole number below 2**63."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_bytes(value: int) -> int:
    """How many bytes `put_varint` makes of a number."""
    return (value.bit_length() + 6) // 7 or 1


def pull_varint(
    data: bytes | bytearray, position: int = 0, max_bytes: int = MAX_VARINT_BYTES
) -> tuple[int, int] | None:
    """Decode the number at a position: `(value, position after it)`.

    Returns:
        None where more bytes are needed.

    Raises:
        ProtocolViolation: It takes more than `max_bytes`.
    """
    value = shift = 0
    stop = min(position + max_bytes, len(data))
    while position < stop:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    if shift == 7 * max_bytes:
        raise ProtocolViolation(f"a number of more than {max_bytes} bytes")
    return None
