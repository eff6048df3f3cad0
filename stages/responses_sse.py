"""Events of OpenAI's Responses API, to frames and back.

Such an event has a name as well as data, so the payload of its frame is the event itself, as its
`event:` and `data:` lines. A text delta says which item it belongs to and its own number, which no
other frame tells: its payload is these four alone, and the template says the rest. As for other
APIs (`headstart.stages.sse`), comparing bytes decides which of the two it is.
"""

from collections.abc import Callable

import msgspec

from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader

__all__ = ["LAST_EVENTS", "ResponsesParser", "name_of", "project_response"]

LAST_EVENTS = frozenset({b"response.completed", b"response.incomplete", b"response.failed"})
"""Names of the events that hold the whole response; nothing follows them."""

_TEMPLATES = {
    Channel.CONTENT: (
        b'event: response.output_text.delta\ndata: {"content_index":%(content)b,"delta":%(text)b,'
        b'"item_id":%(item)b,"logprobs":[],"output_index":%(output)b,"sequence_number":%(number)b,'
        b'"type":"response.output_text.delta"}'
    ),
    Channel.REASONING: (
        b'event: response.reasoning_text.delta\ndata: {"content_index":%(content)b,'
        b'"delta":%(text)b,"item_id":%(item)b,"output_index":%(output)b,'
        b'"sequence_number":%(number)b,"type":"response.reasoning_text.delta"}'
    ),
}
"""What vLLM 0.32 writes around the text of a delta; see tests/golden."""
_CHANNELS = {
    "response.output_text.delta": Channel.CONTENT,
    "response.reasoning_text.delta": Channel.REASONING,
    "response.function_call_arguments.delta": Channel.TOOL,
}
_LINES = (b"event: ", b"data: ")


class _Response(msgspec.Struct):
    id: str = ""
    model: str = ""
    created_at: float = 0


class _Event(msgspec.Struct):
    type: str = ""
    delta: str | None = None
    item_id: str = ""
    content_index: int = 0
    output_index: int = 0
    sequence_number: int = 0
    response: _Response | None = None


_decoder = msgspec.json.Decoder(_Event)
_json = msgspec.json.Encoder()


def name_of(payload: bytes | None) -> bytes:
    """Return the name of the event that a frame's payload is, or nothing."""
    if payload is None or not payload.startswith(b"event: "):
        return b""
    return payload[7:].split(b"\n", 1)[0]


def project_response(frame: Frame) -> bytes:
    """Rebuild one event, blank line included.

    Raises:
        ProtocolViolation: The frame's payload is neither an event nor what a template lacks.
    """
    payload = frame.payload or b""
    if payload.startswith(_LINES):
        return b"%b\n\n" % payload
    template, parts = _TEMPLATES.get(frame.channel), payload.split(b" ", 3)
    if template is None or len(parts) < 4:
        raise ProtocolViolation(f"no template for this response on channel {frame.channel!r}")
    number, output, content, item = parts
    said = {b"number": number, b"output": output, b"content": content, b"item": item}
    return b"%b\n\n" % (template % (said | {b"text": _json.encode(frame.text)}))


class ResponsesParser:
    """Turns the events of one response into its header and frames.

    Args:
        status: HTTP status of the stream.
        content_type: Content type of the stream.
    """

    __slots__ = ("_content_type", "_status", "header")

    def __init__(self, status: int, content_type: str) -> None:
        self._status = status
        self._content_type = content_type
        self.header: StreamHeader | None = None
        """Known after the first `parse`."""

    def parse(self, event: bytes, take: Callable[[int], tuple[int, ...]], at_us: int) -> Frame:
        """Turn one event into a frame.

        Args:
            event: Its `event:` and `data:` lines, at least one.
            take: Called with 0, the only choice; hands over the token ids not yet framed.
            at_us: Microseconds since the stream began.
        """
        said = _decode(event)
        if self.header is None:
            self._begin(said.response or _Response())
        channel = _CHANNELS.get(said.type)
        if channel is None or said.delta is None:
            # The tokens that prompted it belong to the delta that follows, unless none does.
            tokens = take(0) if name_of(event) in LAST_EVENTS else ()
            return Frame(0, Channel.EVENT, "", tokens, at_us, event)
        if channel is Channel.TOOL:
            return Frame(0, channel, "", take(0), at_us, event)
        lacking = b"%d %d %d %b" % (
            *(said.sequence_number, said.output_index, said.content_index),
            _json.encode(said.item_id),
        )
        frame = Frame(0, channel, said.delta, take(0), at_us, lacking)
        if project_response(frame)[:-2] == event:
            return frame
        return msgspec.structs.replace(frame, payload=event)

    def _begin(self, response: _Response) -> None:
        self.header = StreamHeader(
            status=self._status,
            content_type=self._content_type,
            api="responses",
            response_id=response.id,
            model=response.model,
            created=_seconds(response.created_at),
        )


def _decode(event: bytes) -> _Event:
    _, _, data = event.partition(b"data: ")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Event()


def _seconds(created_at: float) -> int:
    return int(created_at) if 0 <= created_at < 2**63 else 0
