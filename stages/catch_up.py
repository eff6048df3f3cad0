"""What a reliable stream says that carries a part of a token log to a reader that fell behind.

The sender asks for one by `CatchUp`; whatever arrives becomes `CatchUpReceived`, in pieces, before
the whole is there. The stream names its range first, and holds it to that: a reader never takes a
byte past what the sender has promised, and acknowledges none that the sender has not sent.
"""

from headstart.stages.datagram_events import CatchUp, CatchUpReceived
from headstart.stages.errors import ProtocolViolation
from headstart.stages.wire import CATCH_UP, WIRE_VERSION, Piece, put_varint

__all__ = ["CatchUpReader", "encode_catch_up_head"]

_MAX_HEAD_BYTES = 1 + 3 * 9


def encode_catch_up_head(stream: int, catch_up: CatchUp) -> bytes:
    """Encode what goes before the log's bytes from `catch_up.start` to `catch_up.stop`."""
    numbers = (stream, catch_up.start, catch_up.stop - catch_up.start)
    return bytes((WIRE_VERSION << 4 | CATCH_UP,)) + b"".join(map(put_varint, numbers))


class CatchUpReader:
    """Reads one reliable stream, however it is cut into chunks."""

    __slots__ = ("_head", "_position", "_stop", "stream")

    def __init__(self) -> None:
        self.stream: int | None = None
        """The session's number for the answer, once it is known."""
        self._head = b""
        self._position = self._stop = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything promised has arrived."""
        return self.stream is not None and self._position == self._stop

    def read(self, data: bytes) -> list[CatchUpReceived]:
        """Take the next bytes of the stream.

        Raises:
            ProtocolViolation: They are not such a stream, or go on past its range.
        """
        if self.stream is None:
            self._head += data
            data = self._take_head()
        if not data:
            return []
        piece = Piece(self._position, data)
        if piece.stop > self._stop:
            raise ProtocolViolation("a catch-up stream goes on past its range")
        self._position = piece.stop
        return [CatchUpReceived(piece)]

    def _take_head(self) -> bytes:
        """Return what follows the head; nothing while it is not whole."""
        if self._head and self._head[0] != WIRE_VERSION << 4 | CATCH_UP:
            raise ProtocolViolation("not a catch-up stream of this version")
        numbers: list[int] = []
        position = 1
        while len(numbers) < 3:
            value = shift = 0
            while True:
                if position >= len(self._head):
                    if len(self._head) >= _MAX_HEAD_BYTES:
                        raise ProtocolViolation("a number in a catch-up stream is too long")
                    return b""
                byte = self._head[position]
                position += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
                if shift > 56:
                    raise ProtocolViolation("a number in a catch-up stream is too long")
            numbers.append(value)
        self.stream, self._position, size = numbers
        self._stop = self._position + size
        rest, self._head = self._head[position:], b""
        return rest
